//! A thousand sessions at once: all are open together, and each gets its own bytes.

use std::sync::Barrier;

use crate::harness::admin_v2::Client2;
use crate::harness::machine::raise_descriptors;
use crate::harness::origin::{Origin, V4, V6};
use crate::harness::{Client, Daemon, Ending, Rng, connect_through, eventually, exclusive, pattern};

const SESSIONS_COUNT: usize = 1000;
const THREADS_COUNT: usize = 20;

/// Opens all, then uses all, then ends all; no session ends before every one is open.
fn crowd(daemon: &Daemon, origins: &[Origin]) {
    raise_descriptors(4 * SESSIONS_COUNT as u64);
    let everybody = Barrier::new(THREADS_COUNT);
    std::thread::scope(|scope| {
        for thread in 0..THREADS_COUNT {
            let everybody = &everybody;
            scope.spawn(move || {
                let numbers = (thread..SESSIONS_COUNT).step_by(THREADS_COUNT);
                let mut open: Vec<(u64, Client)> = numbers
                    .map(|number| {
                        let origin = &origins[number % origins.len()];
                        (number as u64, connect_through(daemon.address(), origin.address()))
                    })
                    .collect();
                everybody.wait();
                for round in 0..3 {
                    for (number, client) in &mut open {
                        client.send(&payload(*number, round));
                    }
                    for (number, client) in &mut open {
                        let expected = payload(*number, round);
                        assert_eq!(client.read(expected.len()), expected, "session {number}, round {round}");
                    }
                }
                everybody.wait();
                for (number, client) in &mut open {
                    client.half_close();
                    assert_eq!(client.expect_end(), Ending::Closed, "session {number}");
                }
            });
        }
    });
    let accepted_count: usize = origins.iter().map(Origin::accepted_count).sum();
    assert_eq!(accepted_count, SESSIONS_COUNT);
}

/// Up to 16 KiB, which fits the buffers of the kernel on the whole way, and belongs to one session only.
fn payload(number: u64, round: u64) -> Vec<u8> {
    let seed = number << 8 | round;
    pattern(seed, 1 + Rng::new(seed).below(16 * 1024))
}

#[test]
fn a_thousand_sessions_at_once_all_complete() {
    let _alone = exclusive();
    let daemon = Daemon::start(&[]);
    crowd(&daemon, &[Origin::echo(V4), Origin::echo(V6)]);
}

#[test]
fn a_thousand_sessions_at_once_complete_with_eight_workers() {
    let _alone = exclusive();
    let daemon = Daemon::start(&["--workers", "8"]);
    crowd(&daemon, &[Origin::echo(V4), Origin::echo(V6)]);
}

#[test]
fn a_thousand_sessions_at_once_complete_with_one_worker_and_small_buffers() {
    let _alone = exclusive();
    let daemon = Daemon::start(&["--workers", "1", "--buffer-size", "512"]);
    crowd(&daemon, &[Origin::echo(V4)]);
}

#[test]
fn few_sessions_share_the_first_worker_and_many_are_spread() {
    let daemon = Daemon::start(&["--admin", "root:secret", "--workers", "3", "--spread-from", "8"]);
    let mut admin = Client2::log_in(&daemon, b"root", b"secret");
    let origin = Origin::echo(V4);
    let open = |count| (0..count).map(|_| connect_through(daemon.address(), origin.address()));
    for _ in 0..2 {
        let mut clients: Vec<_> = open(8).collect();
        eventually("the first has eight", || admin.sessions_by_worker()[..3] == [8, 0, 0]);
        clients.extend(open(22));
        let is_even = |counts: &[u64]| counts.iter().all(|count| (9..=11).contains(count));
        eventually("each has a third", || is_even(&admin.sessions_by_worker()[..3]));
        // Half of the first eight are gone: the others have their sessions to the end, and get no more.
        let stay: Vec<_> = clients.drain(8..14).collect();
        drop(clients);
        eventually("they are over", || admin.sessions_by_worker().iter().sum::<u64>() == 6);
        let before = admin.sessions_by_worker();
        let more: Vec<_> = open(2).collect();
        let after = [before[0] + 2, before[1], before[2]];
        eventually("new ones go to the first", || admin.sessions_by_worker()[..3] == after);
        drop((stay, more));
        eventually("all are over", || admin.sessions_by_worker().iter().sum::<u64>() == 0);
    }
}
