//! Whole sessions under virtual time: the stages and the relay driven through splits, delays, small windows,
//! resets and half-closes, with every invariant checked after every step.
//!
//! A failure names its seed; `SIM_SEED=n` replays just that one, `SIM_SEEDS=n` runs more of them.

#![allow(clippy::indexing_slicing, clippy::fn_params_excessive_bools, reason = "a panic is how a test fails")]

mod network;
mod random;
mod world;

use random::Random;
use world::{Plan, World};

/// Sessions in an ordinary run: a few seconds.
const SEEDS: u64 = 20_000;

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

fn run(seed: u64) {
    let outcome = std::panic::catch_unwind(|| {
        let mut random = Random::new(seed);
        let plan = Plan::draw(&mut random);
        World::new(plan, random).run();
    });
    assert!(outcome.is_ok(), "seed {seed} failed; replay it with SIM_SEED={seed}");
}

#[test]
fn random_sessions_lose_no_byte_and_come_to_an_end() {
    if let Some(seed) = variable("SIM_SEED") {
        return run(seed);
    }
    for seed in 0..variable("SIM_SEEDS").unwrap_or(SEEDS) {
        run(seed);
    }
}

#[test]
fn the_same_seed_gives_the_same_session() {
    let digest = |seed| {
        let mut random = Random::new(seed);
        let plan = Plan::draw(&mut random);
        World::new(plan, random).run()
    };
    for seed in 0..20 {
        assert_eq!(digest(seed), digest(seed), "seed {seed}");
    }
}
