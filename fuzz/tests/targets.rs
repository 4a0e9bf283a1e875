//! Every target on its committed inputs and on changed ones: seconds by default, as long as is asked for
//! otherwise. And the driver itself: a failure has to be found, made small, saved and repeatable.
//!
//! `FUZZ_SECONDS=600`: that many seconds for each target, with a seed of its own, which is printed.
//! `FUZZ_SEED=n`, `FUZZ_FIRST=n`: the inputs of that seed, from that number on.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuzz::driver::{Cause, Failure, Fault, Plan, Summary, run, seeds_of};
use fuzz::mutate::input;
use fuzz::{Judged, Range, TARGETS, Target};

/// Inputs of each target in an ordinary run, if there is time for them.
const INPUTS: u64 = 20_000;

/// Time for each target in an ordinary run.
const TIME: Duration = Duration::from_millis(600);

/// No input of a few KiB takes that long, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(20);

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

fn plan() -> Plan {
    let seconds = variable("FUZZ_SECONDS");
    let clock = || u64::from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos());
    Plan {
        seed: variable("FUZZ_SEED").unwrap_or_else(|| if seconds.is_some() { clock() } else { 1 }),
        first: variable("FUZZ_FIRST").unwrap_or(0),
        inputs_max: if seconds.is_some() { u64::MAX } else { INPUTS },
        time_max: seconds.map_or(TIME, Duration::from_secs),
        patience: PATIENCE,
        artifacts: root().join("artifacts"),
    }
}

fn fuzz(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target of that name");
    let seeds = seeds_of(&root().join("seeds").join(name)).expect("committed inputs");
    let plan = plan();
    let summary = run(target, seeds, &plan).unwrap_or_else(|failure| panic!("{failure}"));
    let Summary { inputs, accepted } = summary;
    println!("{name}: {inputs} inputs of seed {}, {accepted} accepted", plan.seed);
    assert!(accepted > 0, "none of {inputs} inputs was accepted: only the first check is tested");
    assert_eq!(accepted < inputs, target.range == Range::Both, "{accepted} of {inputs} accepted");
}

/// One test for each target, and the list of them.
macro_rules! targets {
    ($($name:ident)*) => {
        $(#[test] fn $name() { fuzz(stringify!($name)); })*
        const TESTED: &[&str] = &[$(stringify!($name)),*];
    };
}

targets! {
    client_messages reply dialogue dialogue_split domain_name message stream request response metrics_request hosts
    resolv_conf config setting secrets users_file session_id access_line dissectors association pipo_version1 pipo_version2
}

#[test]
fn every_target_has_a_test_seeds_and_a_program() {
    let names: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    assert_eq!(names.len(), TARGETS.len());
    assert_eq!(TESTED.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>(), names);
    let listed = |directory: &str, strip: &str| -> BTreeSet<String> {
        let entries = std::fs::read_dir(root().join(directory)).unwrap();
        let name =
            |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
        entries.map(name).map(|name| name.trim_end_matches(strip).to_owned()).collect()
    };
    assert_eq!(listed("seeds", ""), names);
    assert_eq!(listed("fuzz_targets", ".rs"), names);
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    for name in names {
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name} is no program");
    }
}

// ---- the driver itself --------------------------------------------------------------------------------------

/// A target that breaks its promise for what holds three octets in order; a seed comes near.
fn planted(octets: &[u8]) -> Judged {
    assert!(!octets.windows(3).any(|window| window == b"\xffKO"), "planted");
    Judged::from(octets.first() == Some(&b'O'))
}

/// A target that needs a while for inputs of more than 100 octets: long for this test's patience.
fn slow(octets: &[u8]) -> Judged {
    if octets.len() > 100 {
        let (_sender, receiver) = std::sync::mpsc::channel::<()>();
        let _ = receiver.recv_timeout(Duration::from_secs(2));
    }
    Judged::Refused
}

fn target(name: &'static str, run: fn(&[u8]) -> Judged) -> Target {
    Target { name, run, range: Range::Both, words: &[] }
}

fn short(artifacts: &Path) -> Plan {
    Plan {
        seed: 1,
        first: 0,
        inputs_max: 1_000_000,
        time_max: Duration::from_secs(60),
        patience: PATIENCE,
        artifacts: artifacts.to_owned(),
    }
}

/// A directory that is gone when the test is over.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("socks5d-fuzz-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_planted_panic_is_found_made_small_saved_and_repeated() {
    let scratch = Scratch::new("planted");
    let seeds = vec![b"OK and much else, as the seeds of real targets have it; KO".to_vec()];
    let plan = short(&scratch.0);
    let failure = *run(&target("planted", planted), seeds.clone(), &plan).unwrap_err();
    let Failure { target: name, fault, cause, input: found, saved } = failure.clone();
    assert_eq!((name, &*found), ("planted", &b"\xffKO"[..]));
    assert!(
        matches!(&fault, Fault::Panic(text) if text.ends_with(": planted") && text.contains("targets.rs"))
    );
    assert_eq!(std::fs::read(saved.clone().unwrap()).unwrap(), found);

    let Cause::Made { seed, number } = cause else { panic!("{cause:?}") };
    assert!(std::panic::catch_unwind(|| planted(&input(&seeds, &[], seed, number))).is_err());
    let again = *run(&target("planted", planted), seeds, &Plan { first: number, ..plan }).unwrap_err();
    assert_eq!(again, failure);

    let text =
        failure.to_string().replace(&number.to_string(), "N").replace(scratch.0.to_str().unwrap(), "DIR");
    let text = text
        .split_once("targets.rs:")
        .map_or("", |(_, rest)| rest.trim_start_matches(|c: char| c != ' ').trim_start());
    expect_test::expect![[r#"
        planted
          on input N of seed 1; again: FUZZ_SEED=1 FUZZ_FIRST=N
          3 octets: b"\xffKO"
          saved as DIR/planted/found-f828a41be342f1b0.seed; once mended it belongs into seeds/planted"#]]
    .assert_eq(text);
}

#[test]
fn a_committed_input_that_fails_is_named_by_its_place() {
    let scratch = Scratch::new("seed");
    let seeds = vec![b"fine".to_vec(), b"\xffKO".to_vec()];
    let failure = run(&target("planted", planted), seeds, &short(&scratch.0)).unwrap_err();
    assert_eq!(failure.cause, Cause::Seed(1));
}

#[test]
fn an_input_without_end_is_found_and_saved() {
    let scratch = Scratch::new("slow");
    let plan = Plan { patience: Duration::from_millis(300), ..short(&scratch.0) };
    let failure = run(&target("slow", slow), vec![vec![b'.'; 90]], &plan).unwrap_err();
    assert_eq!(failure.fault, Fault::Endless);
    assert!(failure.input.len() > 100);
    assert_eq!(std::fs::read(failure.saved.unwrap()).unwrap(), failure.input);
}

#[test]
fn a_run_without_failure_counts_what_was_accepted() {
    let scratch = Scratch::new("fine");
    let plan = Plan { inputs_max: 500, ..short(&scratch.0) };
    let fine = |octets: &[u8]| Judged::from(octets.first() == Some(&b'O'));
    let summary = run(&target("fine", fine), vec![b"O".to_vec()], &plan).unwrap();
    assert_eq!(summary.inputs, 501);
    assert!(summary.accepted > 0 && summary.accepted < 501, "{summary:?}");
}
