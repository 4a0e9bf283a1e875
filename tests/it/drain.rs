//! Draining over the admin channel and its end: nobody comes in, everybody there goes on, and the way back.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use pipo_protocol::v2::messages::*;
use pipo_protocol::v2::{Reply, Request};
use rustix::process::Signal;

use crate::harness::admin_v2::Client2;
use crate::harness::origin::{Origin, V4};
use crate::harness::{Client, Daemon, LIMIT, connect_through, eventually};

const DRAIN: Request = Request::ServerDrain(Nothing {});
const UNDRAIN: Request = Request::ServerUndrain(Nothing {});

fn start() -> (Daemon, Client2) {
    let daemon = Daemon::start(&["--admin", "root:secret"]);
    let admin = Client2::log_in(&daemon, b"root", b"secret");
    (daemon, admin)
}

fn state(admin: &mut Client2) -> ServerState {
    match admin.ask(&Request::ServerInfo(Nothing {})) {
        Ok(Reply::ServerInfo(info)) => info.state,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_drained_server_keeps_its_sessions_and_takes_new_ones_after_the_drain() {
    let (daemon, mut admin) = start();
    let origin = Origin::echo(V4);
    let mut early = connect_through(daemon.address(), origin.address());
    let mut watching = Client2::log_in(&daemon, b"root", b"secret");
    for round in 0..3 {
        let Ok(Reply::ServerDrain(drained)) = admin.ask(&DRAIN) else { panic!() };
        assert_eq!(drained.sessions_count, 1, "round {round}");
        assert_eq!(state(&mut admin), ServerState::Draining);
        for listener in daemon.listeners() {
            assert!(TcpStream::connect(listener).is_err(), "{listener} in round {round}");
        }
        early.assert_echo(b"who is in goes on");
        assert!(admin.ask(&DRAIN).is_ok(), "nothing more to do");
        assert_eq!(watching.notice().1.kind, NoticeKind::Draining);
        assert!(admin.ask(&UNDRAIN).is_ok());
        assert_eq!(state(&mut admin), ServerState::Running);
        assert_eq!(watching.notice().1.kind, NoticeKind::Undrained);
        for listener in daemon.listeners() {
            connect_through(*listener, origin.address()).assert_echo(b"back");
        }
        assert!(admin.ask(&UNDRAIN).is_ok(), "nothing more to do");
        eventually("the late ones are gone", || {
            matches!(admin.ask(&Request::ServerInfo(Nothing {})),
                Ok(Reply::ServerInfo(info)) if info.sessions_count == 1)
        });
    }
}

#[test]
fn who_had_connected_before_the_drain_is_served() {
    let (daemon, mut admin) = start();
    let origin = Origin::echo(V4);
    for _ in 0..5 {
        let mut clients: Vec<_> = (0..50).map(|_| Client::connect(daemon.address())).collect();
        admin.ask(&DRAIN).unwrap();
        for client in &mut clients {
            assert_eq!(client.ask(&origin.address().into()).code, 0);
            client.assert_echo(b"served");
        }
        admin.ask(&UNDRAIN).unwrap();
    }
}

#[test]
fn a_server_whose_places_are_taken_says_that_it_pauses() {
    let daemon = Daemon::start(&["--admin", "root:secret", "--max-sessions", "2"]);
    let mut admin = Client2::log_in(&daemon, b"root", b"secret");
    assert_eq!(state(&mut admin), ServerState::Running);
    let clients: Vec<_> = (0..3).map(|_| TcpStream::connect(daemon.address()).unwrap()).collect();
    eventually("it pauses", || state(&mut admin) == ServerState::Paused);
    drop(clients);
    eventually("it goes on", || state(&mut admin) == ServerState::Running);
}

#[test]
fn a_drained_server_ends_like_any_other() {
    let (mut daemon, mut admin) = start();
    let origin = Origin::echo(V4);
    let mut session = connect_through(daemon.address(), origin.address());
    admin.ask(&DRAIN).unwrap();
    daemon.signal(Signal::TERM);
    session.assert_echo(b"until it ends");
    session.half_close();
    session.expect_end();
    assert!(daemon.wait(LIMIT).success());
}

#[test]
fn a_server_that_is_drained_under_a_storm_of_connects_loses_nobody_whom_it_took() {
    let (daemon, mut admin) = start();
    let address = daemon.address();
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let storm: Vec<_> = (0..4)
        .map(|_| {
            let stop = std::sync::Arc::clone(&stop);
            std::thread::spawn(move || {
                let mut connected = 0_u32;
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    // Refused while it is drained; a reset in between is the drain's own.
                    if let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_secs(5)) {
                        connected += u32::from(stream.write_all(&[5, 1, 0]).is_ok());
                    }
                }
                connected
            })
        })
        .collect();
    for _ in 0..20 {
        admin.ask(&DRAIN).unwrap();
        admin.ask(&UNDRAIN).unwrap();
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(storm.into_iter().map(|thread| thread.join().unwrap()).sum::<u32>() > 0);
    let origin = Origin::echo(V4);
    connect_through(address, origin.address()).assert_echo(b"still here");
}
