//! pipoctl at a terminal: log-in, editing, completion, events above the line, Ctrl-C and Ctrl-D, history, the return
//! after a restart, and a commit that waits to be confirmed.

use std::os::unix::fs::PermissionsExt;

use rustix::process::Signal;

use crate::harness::pipoctl::Pipoctl;
use crate::harness::terminal::{END, ENTER, INTERRUPT, TAB, Terminal};
use crate::harness::{Client, Daemon, eventually};

fn daemon() -> Daemon {
    Daemon::start(&["--admin", "root:secret", "--auth", "optional", "--workers", "1"])
}

/// pipoctl of root at a terminal, logged in by its variable.
fn logged_in(root: &Pipoctl) -> Terminal {
    let mut terminal = Terminal::start(&root.command::<&str>(&[]));
    terminal.shows("Connected to socks5d");
    terminal.shows("admin> ");
    terminal
}

/// Ctrl-C takes away what was typed, keys that are not read yet too; so the next prompt is waited for.
fn clear_line(terminal: &mut Terminal) {
    terminal.types(INTERRUPT);
    terminal.shows("admin> ");
}

fn root(daemon: &Daemon) -> Pipoctl {
    Pipoctl::new(daemon, "root", "secret")
}

#[test]
fn a_person_logs_in_without_echo_and_may_mistype() {
    let daemon = daemon();
    let root = root(&daemon);
    let server = format!("127.0.0.1:{}", root.sctp_port());
    let mut terminal = Terminal::start(&root.bare(&["--server", &server]));
    terminal.shows("User: ");
    terminal.enters("root");
    terminal.shows("Password of root at");
    eventually("echo is off", || !terminal.echoes());
    terminal.enters("wrong-one");
    terminal.shows("login failed");
    terminal.shows("User: ");
    terminal.enters("root");
    terminal.shows("Password of root at");
    eventually("echo is off", || !terminal.echoes());
    terminal.enters("secret");
    terminal.shows("Connected to socks5d");
    terminal.shows("as root (admin)");
    terminal.shows("admin> ");
    terminal.enters("user list");
    terminal.shows("anonymous");
    // Before the prompt the terminal itself would take the key.
    terminal.shows("admin> ");
    terminal.types(END);
    assert_eq!(terminal.ends().code(), Some(0));
    let text = terminal.text();
    assert!(!text.contains("secret") && !text.contains("wrong-one"), "{text}");
    assert!(terminal.echoes(), "the terminal is left as it was");
}

#[test]
fn ctrl_c_at_the_password_gives_the_terminal_back() {
    let daemon = daemon();
    let root = root(&daemon);
    let server = format!("127.0.0.1:{}", root.sctp_port());
    let mut terminal = Terminal::start(&root.bare(&["--server", &server, "--user", "root"]));
    terminal.shows("Password of root at");
    eventually("echo is off", || !terminal.echoes());
    terminal.types(INTERRUPT);
    assert_eq!(terminal.ends().code(), Some(130));
    assert!(terminal.echoes());
}

#[test]
fn tab_completes_words_and_what_only_the_server_knows() {
    let daemon = daemon();
    let root = root(&daemon);
    root.adds("wilhelmina");
    let client = Client::connect(daemon.address());
    let mut terminal = logged_in(&root);
    terminal.types(&format!("us{TAB}rem{TAB}wil{TAB}"));
    terminal.shows("user remove wilhelmina ");
    clear_line(&mut terminal);
    terminal.types(&format!("setting get buffer{TAB}"));
    terminal.shows("setting get buffer-size ");
    clear_line(&mut terminal);
    let sessions = root.json(&["session", "list"]);
    let id = sessions[0]["id"].as_str().expect("a session");
    terminal.types(&format!("session show {}{TAB}", &id[..id.len() - 2]));
    terminal.shows(&format!("session show {id} "));
    terminal.types(ENTER);
    terminal.shows("negotiate");
    drop(client);
}

#[test]
fn events_come_above_the_line_and_ctrl_c_ends_only_them() {
    let daemon = daemon();
    let root = root(&daemon);
    let mut terminal = logged_in(&root);
    terminal.enters("events");
    terminal.shows("events: followed until Ctrl-C");
    terminal.shows("admin> ");
    terminal.types("setting get idle");
    terminal.shows("setting get idle");
    let client = Client::connect(daemon.address());
    terminal.shows("opened");
    // The line is still there, and can be ended.
    terminal.shows("setting get idle");
    terminal.enters("-timeout --json");
    terminal.shows("\"idle-timeout\"");
    terminal.shows("admin> ");
    terminal.types(INTERRUPT);
    terminal.shows("events: interrupted");
    terminal.enters("server info");
    terminal.shows("socks5d");
    drop(client);
}

#[test]
fn ctrl_c_ends_a_watch_and_clears_a_line() {
    let daemon = daemon();
    let root = root(&daemon);
    let mut terminal = logged_in(&root);
    terminal.enters("watch -n 0.1 statistics");
    terminal.shows("statistics");
    terminal.shows("statistics");
    terminal.types(INTERRUPT);
    terminal.shows("interrupted");
    terminal.shows("admin> ");
    terminal.types("no such thing");
    terminal.shows("no such thing");
    clear_line(&mut terminal);
    terminal.enters("server info --json");
    terminal.shows("\"version\"");
    terminal.enters("usre list");
    terminal.shows("did you mean user");
    terminal.types(END);
    assert_eq!(terminal.ends().code(), Some(0));
}

#[test]
fn the_history_is_its_owners_and_holds_no_secret() {
    let daemon = daemon();
    let root = root(&daemon);
    let mut terminal = logged_in(&root);
    terminal.enters("user add eve");
    terminal.shows("New password of eve: ");
    eventually("echo is off", || !terminal.echoes());
    terminal.enters("hidden-from-all");
    terminal.shows("The same again: ");
    eventually("echo is off", || !terminal.echoes());
    terminal.enters("hidden-from-all");
    terminal.shows("admin> ");
    terminal.enters("exit");
    assert_eq!(terminal.ends().code(), Some(0));
    let file = root.home().path().join(".local/state/pipoctl/history");
    let lines = std::fs::read_to_string(&file).expect("a history");
    assert!(lines.contains("user add eve"), "{lines}");
    assert!(!lines.contains("hidden-from-all"), "{lines}");
    assert_eq!(std::fs::metadata(&file).expect("a history").permissions().mode() & 0o777, 0o600);
    // The next conversation has it.
    let mut terminal = logged_in(&root);
    terminal.types("\x1b[A\x1b[A");
    terminal.shows("user add eve");
}

#[test]
fn the_link_comes_back_after_a_restart() {
    let mut first = daemon();
    let root = root(&first);
    let mut terminal = logged_in(&root);
    terminal.enters("events");
    terminal.shows("followed until");
    first.signal(Signal::TERM);
    terminal.shows("connecting again");
    first.wait(crate::harness::LIMIT);
    let sctp_port = root.sctp_port().to_string();
    let second = Daemon::start(&[
        "--admin",
        "root:secret",
        "--auth",
        "optional",
        "--workers",
        "1",
        "--admin-udp-port",
        root.udp_port(),
        "--admin-port",
        &sctp_port,
    ]);
    terminal.shows("connected again");
    let client = Client::connect(second.address());
    terminal.shows("opened");
    terminal.enters("server info --json");
    terminal.shows("\"version\"");
    drop(client);
}

#[test]
fn a_commit_that_waits_is_shown_and_uncommitted_changes_are_asked_about() {
    let daemon = daemon();
    let root = root(&daemon);
    let mut terminal = logged_in(&root);
    terminal.enters("config set idle-timeout 77s");
    terminal.shows("admin +1> ");
    terminal.types(END);
    terminal.shows("1 change is not committed. Leave all the same? [y/N] ");
    terminal.enters("n");
    terminal.shows("admin +1> ");
    terminal.enters("config commit confirmed 6");
    terminal.shows("confirm within");
    terminal.shows("taken back in 5 s");
    terminal.enters("");
    terminal.shows("confirm within");
    // Nobody confirms.
    terminal.shows("reverted");
    terminal.enters("setting get idle-timeout --json");
    let shown = terminal.shows("admin> ");
    assert!(!shown.contains("77"), "{shown}");
}

#[test]
fn numbers_of_the_menu_are_commands() {
    let daemon = daemon();
    let mut terminal = logged_in(&root(&daemon));
    terminal.enters("0");
    terminal.shows("anonymous");
    terminal.enters("?");
    terminal.shows("user add");
}
