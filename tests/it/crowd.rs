//! A thousand sessions at once: all are open together, and each gets its own bytes.

use std::sync::Barrier;

use crate::harness::machine::raise_descriptors;
use crate::harness::origin::{Origin, V4, V6};
use crate::harness::{Client, Daemon, Ending, Rng, connect_through, exclusive, pattern};

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
