//! What happens at a limit: new clients wait or are closed, sessions go on, and the processor rests.

use std::time::Duration;

use crate::harness::client::{CONNECT, NO_AUTH, greeting, request};
use crate::harness::origin::{Origin, V4};
use crate::harness::waiting::pause;
use crate::harness::{Client, Daemon, connect_through, eventually};

/// A session that has sent everything and whose answers nobody has read yet.
fn begin(daemon: &Daemon, origin: &Origin) -> Client {
    let mut client = Client::connect(daemon.address());
    client.send(&[greeting(&[NO_AUTH]), request(CONNECT, &origin.address().into())].concat());
    client
}

fn finish(client: &mut Client) {
    assert_eq!(client.method(), NO_AUTH);
    assert_eq!(client.reply().code, 0);
}

/// Processor time that the daemon takes while nothing should happen.
fn cpu_over_pause(daemon: &Daemon) -> Duration {
    let before = daemon.cpu_time();
    pause(Duration::from_secs(2));
    daemon.cpu_time() - before
}

/// A twentieth of what a spinning thread would take in that pause.
const RESTING: Duration = Duration::from_millis(100);

#[test]
fn an_idle_daemon_rests() {
    let daemon = Daemon::start(&[]);
    let origin = Origin::echo(V4);
    let mut client = connect_through(daemon.address(), origin.address());
    client.assert_echo(b"then nothing");
    let used = cpu_over_pause(&daemon);
    assert!(used < RESTING, "{used:?}");
}

#[test]
fn above_max_sessions_new_clients_wait_and_nothing_spins() {
    let origin = Origin::echo(V4);
    let daemon = Daemon::start(&["--max-sessions", "2"]);
    let mut first = connect_through(daemon.address(), origin.address());
    let mut second = connect_through(daemon.address(), origin.address());
    let mut waiting: Vec<Client> = (0..10).map(|_| begin(&daemon, &origin)).collect();
    let used = cpu_over_pause(&daemon);
    assert!(used < RESTING, "accepting is paused, not tried again and again: {used:?}");
    assert!(waiting.iter_mut().all(|client| client.is_silent_for(Duration::from_millis(10))), "they wait");
    first.assert_echo(b"unharmed");
    second.assert_echo(b"unharmed");
    drop((first, second));
    // Each that ends makes room for the next.
    for mut client in waiting {
        finish(&mut client);
        client.assert_echo(b"after waiting");
    }
}

#[test]
fn clients_of_one_source_above_its_limit_are_closed_and_others_are_not() {
    let origin = Origin::echo(V4);
    let daemon = Daemon::start(&["--max-sessions-per-source", "2"]);
    let mut first = connect_through(daemon.address(), origin.address());
    let second = connect_through(daemon.address(), origin.address());
    for _ in 0..3 {
        let mut third = Client::connect(daemon.address());
        third.expect_end();
    }
    let mut other = Client::connect_from([127, 0, 0, 2].into(), daemon.address());
    assert_eq!(other.ask(&origin.address().into()).code, 0);
    first.assert_echo(b"unharmed");
    drop(second);
    eventually("the place is free again", || {
        let mut client = Client::connect(daemon.address());
        drop(std::io::Write::write_all(&mut client.stream, &greeting(&[NO_AUTH])));
        client.read_to_end_or_silence() == [5, 0]
    });
}

#[test]
fn out_of_descriptors_accepting_pauses_and_every_client_is_served_in_the_end() {
    let origin = Origin::echo(V4);
    let mut daemon = Daemon::with(&[]).descriptors(160).start();
    let idle = daemon.descriptors_count();
    assert!(idle < 64, "{idle} descriptors without a session");
    let mut clients: Vec<Client> = (0..150).map(|_| begin(&daemon, &origin)).collect();
    let used = cpu_over_pause(&daemon);
    assert!(used < 2 * RESTING, "waiting for a descriptor takes no processor: {used:?}");
    daemon.assert_alive();
    assert!(daemon.descriptors_count() <= 160);
    let answered = |client: &mut Client| !client.is_silent_for(Duration::from_millis(5));
    let served_at_once: usize = clients.iter_mut().map(|client| usize::from(answered(client))).sum();
    assert!((10..150).contains(&served_at_once), "{served_at_once} of 150 at once with 160 descriptors");
    for mut client in clients {
        finish(&mut client);
        client.assert_echo(b"served in the end");
    }
    eventually("all is closed", || daemon.descriptors_count() <= idle);
}

#[test]
fn without_a_descriptor_for_the_origin_the_client_gets_01_and_the_daemon_goes_on() {
    let origin = Origin::echo(V4);
    let mut daemon = Daemon::start(&[]);
    let mut unharmed = connect_through(daemon.address(), origin.address());
    let mut client = Client::connect(daemon.address());
    assert_eq!(client.offer(&[NO_AUTH]), NO_AUTH);
    // From now on no descriptor can be made that is not there already.
    let before = daemon.forbid_descriptors();
    assert_eq!(client.request(CONNECT, &origin.address().into()).code, 1);
    client.expect_end();
    unharmed.assert_echo(b"unharmed");
    daemon.limit_descriptors(before.current);
    connect_through(daemon.address(), origin.address()).assert_echo(b"again");
    daemon.assert_alive();
}

#[test]
fn an_accept_that_fails_for_want_of_descriptors_is_tried_again_without_spinning() {
    let origin = Origin::echo(V4);
    let mut daemon = Daemon::start(&[]);
    let before = daemon.forbid_descriptors();
    let mut clients: Vec<Client> = (0..5).map(|_| begin(&daemon, &origin)).collect();
    let used = cpu_over_pause(&daemon);
    assert!(used < 2 * RESTING, "{used:?}");
    daemon.limit_descriptors(before.current);
    for client in &mut clients {
        finish(client);
        client.assert_echo(b"after the drought");
    }
    daemon.assert_alive();
}

#[test]
fn the_soft_limit_of_descriptors_is_raised_to_the_hard_one() {
    let daemon = Daemon::start(&[]);
    let limits = daemon.proc_file("limits");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let fields: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(fields[3], fields[4], "{line}");
}
