//! The client: pipoctl as people and scripts run it, over UDP against a daemon of its own. Every command, every
//! form of output, every exit code, both versions of the protocol.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::Stdio;

use expect_test::{Expect, expect};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::harness::client::{CONNECT, PASSWORD};
use crate::harness::origin::{Origin, V4};
use crate::harness::pipoctl::{Pipoctl, ended};
use crate::harness::{Client, Daemon, eventually};

fn daemon() -> Daemon {
    Daemon::start(&["--admin", "root:secret", "--auth", "optional", "--workers", "2"])
}

fn root(daemon: &Daemon) -> Pipoctl {
    Pipoctl::new(daemon, "root", "secret")
}

/// Adds a user whose password is its name.
fn add(root: &Pipoctl, name: &str, more: &[&str]) {
    let arguments: Vec<_> = ["user", "add", name, "--password-stdin"].iter().chain(more).copied().collect();
    let ran = root.run_with(&arguments, &format!("{name}\n"));
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
}

/// The text with its revision left out, which depends on where a daemon begins to count.
fn without_revision(text: &str) -> String {
    match (text.split_once(" (revision "), text.split_once(')')) {
        (Some((before, _)), Some((_, behind))) => format!("{before}{behind}"),
        _ => text.to_owned(),
    }
}

/// The names of a record's fields, or of the first row of a list.
fn names(json: &Value) -> String {
    let record = json.get(0).unwrap_or(json);
    record.as_object().expect("an object").keys().cloned().collect::<Vec<_>>().join(" ")
}

// ---- forms ----------------------------------------------------------------------------------------------

#[test]
fn json_has_the_names_that_programs_rely_on() {
    let daemon = daemon();
    let root = root(&daemon);
    let check = |arguments: &[&str], expected: Expect| expected.assert_eq(&names(&root.json(arguments)));
    check(
        &["server", "info"],
        expect![
            "as_of version state started_unix_ms started uptime_ms process workers_count sessions_count users_connected_count users_registered_count socks_listeners admin_listeners admin_transport resolver revision pending"
        ],
    );
    check(
        &["server", "workers"],
        expect![
            "worker sessions_count sessions_total_count bytes_up bytes_down lookups_count cache_entries_count inbox_count turn_us_max"
        ],
    );
    check(
        &["user", "list"],
        expect![
            "user role doors enabled sessions_count sessions_total_count bytes_up bytes_down last_seen_unix_ms"
        ],
    );
    check(
        &["statistics"],
        expect![
            "as_of user role doors enabled sessions_count sessions_total_count bytes_up bytes_down last_seen_unix_ms"
        ],
    );
    check(&["setting", "list"], expect!["name value default source effect kind unit allowed words help"]);
    check(
        &["setting", "get", "auth"],
        expect!["name value default source effect kind unit allowed words help revision"],
    );
    check(&["metrics"], expect!["name value kind unit"]);
    check(
        &["metrics", "sessions_current", "--meanings", "--per-worker"],
        expect!["name value kind unit worker meaning"],
    );
    check(&["setting", "set", "idle-timeout", "2m"], expect!["as_of revision sessions_closed_count"]);
    check(&["setting", "reset", "idle-timeout"], expect!["as_of revision sessions_closed_count"]);
}

#[test]
fn one_list_in_three_forms() {
    let daemon = daemon();
    let root = root(&daemon);
    expect![[r#"
        user	role	doors	enabled	sessions_count	sessions_total_count	bytes_up	bytes_down	last_seen_unix_ms
        anonymous	user	proxy	true	0	0	0	0	-
        root	admin	admin	true	0	0	0	0	-
    "#]]
    .assert_eq(&root.said(&["user", "list"]));
    expect![[r#"
        [
        {"user":"anonymous","role":"user","doors":"proxy","enabled":true,"sessions_count":0,"sessions_total_count":0,"bytes_up":0,"bytes_down":0,"last_seen_unix_ms":null},
        {"user":"root","role":"admin","doors":"admin","enabled":true,"sessions_count":0,"sessions_total_count":0,"bytes_up":0,"bytes_down":0,"last_seen_unix_ms":null}
        ]
    "#]]
    .assert_eq(&root.said(&["user", "list", "--json"]));
    expect![[r#"
        {"user":"root","role":"admin","doors":"admin","enabled":true,"sessions_count":0,"sessions_total_count":0,"bytes_up":0,"bytes_down":0,"last_seen_unix_ms":null}
    "#]]
    .assert_eq(&root.said(&["user", "list", "root", "--json-lines"]));
    root.fails(6, &["user", "list", "nobody"]);
    assert_eq!(root.said(&["user", "list", "--prefix", "nobody", "--json"]), "[]\n");
}

#[test]
fn help_needs_no_server() {
    let daemon = daemon();
    let root = root(&daemon);
    let run = |arguments: &[&str]| ended(root.bare(arguments).spawn().unwrap());
    for arguments in
        [&["help"][..], &["--help"], &["user", "?"], &["help", "session", "kill"], &["--version"]]
    {
        let ran = run(arguments);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{arguments:?}");
    }
    assert!(run(&["--help"]).stdout.contains("\n  130  interrupted\n"));
    assert!(run(&["session", "kill", "--help"]).stdout.contains("--dry-run"));
}

#[test]
fn nothing_that_strangers_chose_reaches_the_terminal_as_it_is() {
    let daemon = daemon();
    let root = root(&daemon);
    add(&root, r"\x1b[31mred\xff", &[]);
    for form in [&["user", "list"][..], &["user", "list", "--json"], &["user", "list", "--json-lines"]] {
        let said = root.said(form);
        assert!(!said.contains('\x1b') && said.contains("x1b[31mred"), "{said}");
    }
    let name = root.json(&["user", "list"])[0]["user"].as_str().expect("a name").to_owned();
    assert_eq!(name, r"\x1b[31mred\xff", "control octets sort first");
    root.said(&["user", "remove", &name]);
}

#[test]
fn a_reader_that_goes_is_no_failure() {
    let daemon = daemon();
    let root = root(&daemon);
    let mut child = root.command(&["watch", "-n", "100ms", "metrics"]).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("name\t"), "{line}");
    let ran = ended(child);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let ran = ended(root.command(&["user", "list"]).stdout(full).spawn().unwrap());
    assert_eq!(ran.code, 1, "{ran:?}");
}

// ---- changes --------------------------------------------------------------------------------------------

#[test]
fn a_user_lives_its_whole_life() {
    let daemon = daemon();
    let root = root(&daemon);
    let origin = Origin::echo(V4);
    let ran = root.run_with(&["user", "add", "ada", "--password-stdin"], "first\n");
    assert_eq!((ran.code, without_revision(&ran.stdout).as_str()), (0, "User ada added.\n"));

    let mut client = Client::connect(daemon.address());
    assert_eq!(client.offer(&[PASSWORD]), PASSWORD);
    assert_eq!(client.log_in(b"ada", b"first"), 0);
    assert_eq!(client.request(CONNECT, &origin.address().into()).code, 0);
    eventually("the session counts", || root.json(&["11", "ada"])[0]["sessions_count"] == 1);

    let ran = root.run_with(&["user", "password", "ada", "--password-stdin"], "second\n");
    assert_eq!(
        (ran.code, without_revision(&ran.stdout).as_str()),
        (0, "Password of ada changed; 1 session ended.\n")
    );
    client.expect_end();
    assert_eq!(root.said(&["user", "role", "ada", "observer", "--doors", "both"]).lines().count(), 1);
    let ada = Pipoctl::new(&daemon, "ada", "second");
    assert_eq!(ada.json(&["statistics"])["user"], "ada");
    ada.said(&["metrics"]);
    ada.fails(5, &["setting", "set", "buffer-size", "64k"]);
    assert_eq!(without_revision(&root.said(&["user", "remove", "ada"])), "User ada removed.\n");
    assert!(ada.fails(4, &["statistics"]).starts_with("pipoctl: login failed: "));
}

#[test]
fn settings_are_changed_and_taken_back() {
    let daemon = daemon();
    let root = root(&daemon);
    let value = |root: &Pipoctl| root.json(&["setting", "get", "buffer-size"])["value"].clone();
    let said = root.said(&["setting", "set", "buffer-size", "65536"]);
    assert_eq!(without_revision(&said), "buffer-size is 65536.\n");
    assert_eq!(value(&root), "64 KiB");
    root.fails(7, &["setting", "set", "buffer-size", "128k", "--base", "0"]);
    root.fails(7, &["setting", "set", "workers", "3"]);
    root.said(&["setting", "reset", "buffer-size"]);
    assert_eq!(value(&root), "256 KiB");
    root.said(&["16", "131072"]);
    assert_eq!(value(&root), "128 KiB");
    assert_eq!(root.said(&["--json", "7"]), "{\"users_registered_count\":2}\n");
}

// ---- sessions -------------------------------------------------------------------------------------------

#[test]
fn sessions_are_listed_shown_and_ended() {
    let daemon = daemon();
    let root = root(&daemon);
    let origin = Origin::echo(V4);
    let clients: Vec<_> =
        (0..3).map(|_| crate::harness::connect_through(daemon.address(), origin.address())).collect();
    eventually("all are listed", || {
        root.json(&["session", "list", "--stage", "relay"]).as_array().unwrap().len() == 3
    });
    let rows = root.json(&["session", "list", "--sort", "id", "--limit", "1"]);
    expect!["id user source destination destination_port origin stage age_ms idle_ms bytes_up bytes_down"]
        .assert_eq(&names(&rows));
    let id = rows[0]["id"].as_str().unwrap().to_owned();
    let port = origin.address().port();
    assert_eq!(rows[0]["destination_port"], port);
    expect!["as_of id user source destination destination_port origin stage age_ms idle_ms bytes_up bytes_down worker listener outgoing accepted_unix_ms accepted command reply dns_us connect_us candidates attempts_count mover buffered_up_bytes buffered_down_bytes client_ended origin_ended deadline_ms"].assert_eq(&names(&root.json(&["session", "show", &id])));
    root.fails(6, &["session", "show", "1"]);

    let port = port.to_string();
    assert_eq!(root.said(&["session", "kill", "--port", &port, "--dry-run"]), "3 sessions would end.\n");
    let asked = root.fails(2, &["session", "kill", "--port", &port]);
    assert!(asked.contains("--yes"), "{asked}");
    root.fails(2, &["session", "kill"]);
    root.fails(2, &["session", "kill", "--all", "--port", &port]);
    assert_eq!(root.said(&["session", "kill", &id]), "1 session ended.\n");
    assert_eq!(root.said(&["session", "kill", "--user", "nobody"]), "0 sessions ended.\n");
    let as_of = root.json(&["server", "info"])["as_of"].to_string();
    assert_eq!(root.json(&["session", "kill", "--all", "--yes"])["sessions_count"], 2);
    let told = root.said(&["events", "--from", &as_of, "--kind", "session-closed", "--count", "2", "--json"]);
    for line in told.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        assert_eq!((&event["kind"], &event["reason"]), (&"session-closed".into(), &"killed".into()));
    }
    for mut client in clients {
        client.expect_end();
    }
}

#[test]
fn a_trace_follows_a_session_to_its_end() {
    let daemon = daemon();
    let root = root(&daemon);
    let origin = Origin::echo(V4);
    let mut client = crate::harness::connect_through(daemon.address(), origin.address());
    let id = root.json(&["session", "list"])[0]["id"].as_str().unwrap().to_owned();
    let mut child =
        root.command(&["session", "trace", &id, "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut steps = BufReader::new(child.stdout.take().unwrap());
    // The subscription stands once the first step has come.
    let mut first = String::new();
    let step = std::thread::spawn(move || {
        steps.read_line(&mut first).unwrap();
        let mut rest = String::new();
        steps.read_to_string(&mut rest).unwrap();
        (first, rest)
    });
    eventually("the trace begins or the session has moved bytes", || {
        client.assert_echo(b"traced");
        step.is_finished() || root.json(&["session", "show", &id])["bytes_up"].as_u64().unwrap() > 600
    });
    root.said(&["session", "kill", &id]);
    let ran = ended(child);
    let (first, rest) = step.join().unwrap();
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{first}{rest}");
    let kinds: Vec<_> =
        rest.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["kind"].clone()).collect();
    assert!(kinds.contains(&"closed".into()), "{first}{rest}");
}

#[test]
fn names_are_forgotten_and_clients_are_kept_out_for_a_while() {
    let daemon = daemon();
    let root = root(&daemon);
    let origin = Origin::echo(V4);
    let name = crate::harness::Destination::Name(b"localhost".to_vec(), origin.address().port());
    let session = crate::harness::connect_through(daemon.address(), name);
    assert_eq!(root.json(&["dns", "show", "nowhere.test"]), Value::Array(Vec::new()));
    assert!(root.json(&["dns", "flush"])["entries_count"].is_u64());
    assert_eq!(root.said(&["server", "drain"]), "No new sessions are accepted; 1 session open.\n");
    assert_eq!(root.said(&["server", "info", "--field", "state"]), "draining\n");
    assert_eq!(root.said(&["server", "undrain"]), "New sessions are accepted; 1 session open.\n");
    assert_eq!(root.said(&["server", "info", "--field", "state"]), "running\n");
    drop(session);
}

#[test]
fn the_server_goes_down_when_it_is_told_to() {
    let mut daemon = daemon();
    let root = root(&daemon);
    daemon.may_end();
    assert_eq!(
        root.said(&["server", "shutdown", "--drain", "1s"]),
        "The server is going down; 0 sessions open.\n"
    );
    assert!(daemon.wait(crate::harness::LIMIT).success());
    root.fails(3, &["--timeout", "1s", "user", "list"]);
}

// ---- candidates -----------------------------------------------------------------------------------------

#[test]
fn a_candidate_is_compared_checked_and_committed_as_one() {
    let daemon = daemon();
    let root = root(&daemon);
    let script = "config set buffer-size 64k\nconfig set idle-timeout 2m\nconfig set log-level debug\n\
                  config discard 3\nconfig show --json-lines\nconfig diff --json-lines\nconfig check\n\
                  config add-user ada --password-stdin\nada\nconfig commit\nconfig show --json\n";
    let ran = root.run_with(&[], script);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    expect![[r#"
        The candidate has 1 change; config commit applies it.
        The candidate has 2 changes; config commit applies it.
        The candidate has 3 changes; config commit applies it.
        The candidate has 2 changes.
        {"change":1,"kind":"set","setting":"buffer-size","value":"64k","user":null,"role":null,"doors":null}
        {"change":2,"kind":"set","setting":"idle-timeout","value":"2m","user":null,"role":null,"doors":null}
        {"kind":"set","setting":"buffer-size","user":null,"before":"256 KiB","after":"64 KiB","sessions_count":null}
        {"kind":"set","setting":"idle-timeout","user":null,"before":"300 s","after":"120 s","sessions_count":null}
        Nothing is wrong with the candidate.
        The candidate has 3 changes; config commit applies it.
        Committed.
        []
    "#]]
    .assert_eq(&ran.stdout.lines().map(|line| without_revision(line) + "\n").collect::<String>());
    assert_eq!(root.json(&["setting", "get", "idle-timeout"])["source"], "runtime");
    assert_eq!(root.json(&["user", "list", "ada"])[0]["role"], "user");

    let ran = root.run(&["config", "check", "buffer-size=1", "idle-timeout=3m"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (7, "pipoctl: the candidate has 1 problem\n"), "{ran:?}");
    assert!(ran.stdout.starts_with("change 1: "), "{ran:?}");
    root.fails(2, &["config", "commit"]);
    root.fails(7, &["config", "commit", "buffer-size=1"]);
}

#[test]
fn a_commit_waits_for_its_confirmation() {
    let daemon = daemon();
    let root = root(&daemon);
    let level = |root: &Pipoctl| root.json(&["setting", "get", "buffer-size"])["value"].clone();
    root.said(&["config", "commit", "buffer-size=64k", "confirmed", "60"]);
    assert_eq!(root.json(&["config", "status"])["pending"]["user"], "root");
    root.fails(7, &["setting", "set", "buffer-size", "32k"]);
    root.said(&["config", "rollback"]);
    assert_eq!(level(&root), "256 KiB");
    root.said(&["config", "commit", "buffer-size=64k", "--confirmed=60"]);
    root.said(&["config", "confirm"]);
    assert_eq!(level(&root), "64 KiB");
    assert_eq!(root.json(&["config", "status"])["pending"], Value::Null);
    root.said(&["config", "commit", "buffer-size=32k", "confirmed", "1"]);
    eventually("it is taken back", || level(&root) == "64 KiB");
}

#[test]
fn log_lines_are_followed() {
    let daemon = daemon();
    let root = root(&daemon);
    let mut child = root.command(&["log", "follow", "--kind", "audit", "--count", "1"]).spawn().unwrap();
    eventually("a change after the subscription is told", || {
        root.said(&["setting", "set", "idle-timeout", "2m"]);
        child.try_wait().unwrap().is_some()
    });
    let ran = ended(child);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stdout.contains("idle-timeout") && ran.stdout.contains("root"), "{ran:?}");
    root.said(&["log", "rotate"]);
}

// ---- following ------------------------------------------------------------------------------------------

#[test]
fn events_since_a_list_are_all_told() {
    let daemon = daemon();
    let root = root(&daemon);
    let as_of = root.json(&["server", "info"])["as_of"].to_string();
    add(&root, "ada", &[]);
    root.said(&["user", "remove", "ada"]);
    let said = root.said(&["events", "--from", &as_of, "--kind", "changed", "--count", "2", "--json-lines"]);
    let events: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<_> =
        events.iter().map(|event| (&event["command"], &event["subject"], &event["user"])).collect();
    assert_eq!(
        told,
        [
            (&"user add".into(), &"ada".into(), &"root".into()),
            (&"user remove".into(), &"ada".into(), &"root".into()),
        ] as [(&Value, &Value, &Value); 2]
    );
    let piped = root.said(&["events", "--from", &as_of, "--kind", "changed", "--count", "1"]);
    assert!(piped.contains("\tcommand=user add\tsubject=ada\t"), "{piped}");
}

#[test]
fn samples_and_watched_commands_come_again_and_again() {
    let daemon = daemon();
    let root = root(&daemon);
    let said = root.said(&["metrics", "follow", "bytes_", "-n", "100ms", "--count", "3", "--json"]);
    for line in said.lines() {
        let sample: Value = serde_json::from_str(line).unwrap();
        assert_eq!(sample["values"][0]["name"], "bytes_up");
    }
    assert_eq!(said.lines().count(), 3);
    let said = root.said(&["watch", "-n", "0.1", "--count", "2", "user", "list", "root", "--json-lines"]);
    assert_eq!(said.lines().count(), 2);
    for wrong in
        [&["watch", "user", "remove", "root"][..], &["watch", "events"], &["watch", "-n", "1ms", "metrics"]]
    {
        root.fails(2, wrong);
    }
}

#[test]
fn ctrl_c_ends_what_follows() {
    let daemon = daemon();
    let root = root(&daemon);
    let mut child = root.command(&["metrics", "follow", "-n", "100ms"]).spawn().unwrap();
    child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let ran = ended(child);
    assert_eq!((ran.code, ran.stderr.as_str()), (130, ""));
}

// ---- scripts --------------------------------------------------------------------------------------------

#[test]
fn scripts_stop_at_the_first_error_unless_told_otherwise() {
    let daemon = daemon();
    let root = root(&daemon);
    let script =
        "# a comment\n\nuser list 'root' --json-lines\nuser remove nobody\nset x\nstatistics --json\n";
    let ran = root.run_with(&[], script);
    assert_eq!((ran.code, ran.stdout.lines().count()), (6, 1), "{ran:?}");
    assert!(ran.stderr.starts_with("pipoctl: standard input:4: "), "{ran:?}");

    let file = root.home().file("script", script);
    let file = file.to_str().unwrap();
    let ran = root.run(&["--keep-going", "-f", file]);
    assert_eq!((ran.code, ran.stdout.lines().count(), ran.stderr.lines().count()), (6, 2, 2), "{ran:?}");
    assert!(ran.stderr.contains("script:5: setting \"x\""), "{ran:?}");

    let ran = root.run(&["--json-lines", "-c", "user list root", "-c", "statistics", "-c", "us l anonymous"]);
    assert_eq!((ran.code, ran.stdout.lines().count()), (0, 3), "{ran:?}");
    assert_eq!(root.run_with(&["-f", "-"], "").code, 0);
    assert_eq!(root.run(&["-f", "/nowhere"]).code, 2);
}

#[test]
fn a_script_may_bring_passwords_along() {
    let daemon = daemon();
    let root = root(&daemon);
    let ran =
        root.run_with(&[], "user add ada --password-stdin\n  spaces count \nuser list ada --json-lines\n");
    assert_eq!((ran.code, ran.stdout.lines().count()), (0, 2), "{ran:?}");
    let mut client = Client::connect(daemon.address());
    assert_eq!(client.offer(&[PASSWORD]), PASSWORD);
    assert_eq!(client.log_in(b"ada", b"  spaces count "), 0);
}

// ---- version 1 ------------------------------------------------------------------------------------------

#[test]
fn version_1_says_what_it_can() {
    let daemon = daemon();
    let root = root(&daemon);
    let old = |arguments: &[&str], input: &str| {
        let arguments: Vec<_> = ["--protocol", "1"].iter().chain(arguments).copied().collect();
        let ran = root.run_with(&arguments, input);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{arguments:?}");
        ran.stdout
    };
    assert_eq!(old(&["user", "add", "ada", "--password-stdin"], "pass\n"), "User ada added.\n");
    let expected = "user\trole\nada\tuser\nanonymous\tuser\nroot\tadmin\n";
    assert_eq!(old(&["0"], ""), expected);
    assert_eq!(old(&["11", "ada"], ""), "user\trole\tsessions_count\nada\tuser\t0\n");
    expect![[r#"
        name	value	kind	unit
        sessions_accepted	0	counter	count
        sessions_current	0	gauge	count
        sessions_highest	0	gauge	count
        bytes_up	0	counter	bytes
        bytes_down	0	counter	bytes
        users_connected	0	gauge	count
        users_registered	3	gauge	count
    "#]]
    .assert_eq(&old(&["metrics"], ""));
    old(&["setting", "set", "buffer-size", "64k"], "");
    old(&["18", "60"], "");
    old(&["15", "off"], "");
    old(&["15", "on"], "");
    expect![[r#"
        name	value	unit
        buffer-size	65536	bytes
        idle-timeout	60	seconds
        poll-timeout	10	seconds
    "#]]
    .assert_eq(&old(&["setting", "list"], ""));
    assert_eq!(old(&["6"], ""), "0\n");
    assert_eq!(old(&["13", "ada"], ""), "User ada removed.\n");
    for (code, arguments) in [
        (6, &["user", "remove", "ada"][..]),
        (7, &["setting", "set", "buffer-size", "0"]),
        (7, &["user", "remove", "root"]),
        (2, &["statistics"]),
        (2, &["user", "role", "root", "user"]),
        (2, &["setting", "get", "workers"]),
    ] {
        let arguments: Vec<_> = ["--protocol", "1"].iter().chain(arguments).copied().collect();
        root.fails(code, &arguments);
    }
    Pipoctl::new(&daemon, "root", "wrong").fails(4, &["--protocol", "1", "user", "list"]);
}

// ---- exit codes -----------------------------------------------------------------------------------------

#[test]
fn each_way_to_fail_has_its_code() {
    let daemon = daemon();
    let root = root(&daemon);
    assert_eq!(root.fails(2, &["usre", "list"]), "pipoctl: \"usre\" is not a command; did you mean user?\n");
    root.fails(2, &["user", "add", "ada"]);
    root.fails(2, &["server", "info", "--field", "colour"]);
    let nobody = crate::harness::machine::free_port().to_string();
    root.fails(3, &["--udp-port", &nobody, "--timeout", "2s", "user", "list"]);
    root.fails(3, &["--server", "name.invalid", "--timeout", "5s", "user", "list"]);
    Pipoctl::new(&daemon, "root", "wrong").fails(4, &["user", "list"]);
    root.fails(6, &["user", "remove", "nobody"]);
    root.fails(6, &["setting", "get", "colour"]);
    add(&root, "ada", &[]);
    let ran = root.run_with(&["user", "add", "ada", "--password-stdin"], "again\n");
    assert_eq!(ran.code, 7, "{ran:?}");
    root.fails(7, &["user", "remove", "root"]);
    root.fails(7, &["setting", "set", "buffer-size", "1"]);
}

#[test]
fn who_logs_in_has_to_be_said_and_the_file_says_it_too() {
    let daemon = daemon();
    let root = root(&daemon);
    let run = |arguments: &[&str]| ended(root.bare(arguments).spawn().unwrap());
    let ran = run(&["server", "info"]);
    assert_eq!((ran.code, ran.stderr.contains("--user")), (2, true), "{ran:?}");
    let ran = run(&["--user", "root", "server", "info"]);
    assert_eq!((ran.code, ran.stderr.contains("--password-file")), (2, true), "{ran:?}");

    let secret = root.home().file("secret", "secret\nnot this line\n");
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let folder = root.home().path().join(".config/pipoctl");
    std::fs::create_dir_all(&folder).unwrap();
    let server = crate::harness::admin::places(&daemon)[0];
    let file = format!(
        "default = 'test'\n[servers.test]\nserver = '{}:{}'\nudp-port = {}\nuser = 'root'\npassword-file = '~/secret'\n",
        server.udp.ip(),
        server.sctp_port,
        root.udp_port(),
    );
    std::fs::write(folder.join("config.toml"), file).unwrap();
    let ran = run(&["server", "info", "--field", "users_registered_count"]);
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (0, "2\n", ""));
    std::fs::write(folder.join("config.toml"), "password = 'x'\n").unwrap();
    assert_eq!(run(&["server", "info"]).code, 2);
}

#[test]
fn a_server_that_stops_answering_costs_the_time_limit_only() {
    let mut daemon = daemon();
    let root = root(&daemon);
    let mut child = root.command(&["--timeout", "1s", "--json-lines"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"statistics\n").unwrap();
    child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    daemon.signal(Signal::STOP);
    stdin.write_all(b"statistics\n").unwrap();
    drop(stdin);
    let ran = ended(child);
    daemon.signal(Signal::CONT);
    assert_eq!(ran.code, 8, "{ran:?}");
}

#[test]
fn a_server_that_goes_is_a_lost_connection() {
    let mut daemon = daemon();
    let root = root(&daemon);
    let mut child = root.command(&["metrics", "follow", "-n", "100ms"]).spawn().unwrap();
    child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    daemon.signal(Signal::TERM);
    let ran = ended(child);
    assert_eq!(ran.code, 9, "{ran:?}");
}
