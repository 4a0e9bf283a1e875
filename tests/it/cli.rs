//! The command line: bad values in one line with exit 2, help and version, and which source of a value wins.

use std::os::unix::fs::PermissionsExt as _;

use crate::harness::Daemon;

/// Runs with these arguments; exit code, standard output, standard error.
fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    outcome(Daemon::with(arguments).run())
}

fn outcome(output: std::process::Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_bad_value_is_one_line_that_names_option_value_and_what_is_allowed() {
    // Option, value, and a word of what is allowed.
    let cases = [
        ("--socks-port", "65536", "65535"),
        ("--socks-port", "-1", "65535"),
        ("--socks-port", "http", "65535"),
        ("--socks-addr", "localhost", "address"),
        ("--socks-addr", "127.0.0.1:1080", "address"),
        ("--admin-port", "99999", "65535"),
        ("--auth", "maybe", "optional"),
        ("--dns", "google", "system"),
        ("--doh-ip", "resolver.test", "address"),
        ("--doh-port", "0", "65535"),
        ("--doh-path", "dns-query", "slash"),
        ("--doh-host", "a b", "host"),
        ("--buffer-size", "511", "512"),
        ("--buffer-size", "17M", "16"),
        ("--buffer-size", "many", "512"),
        ("--workers", "0", "1"),
        ("--max-sessions", "0", "1"),
        ("--max-sessions-per-source", "-5", "1"),
        ("--handshake-timeout", "0", "ms"),
        ("--connect-timeout", "31", "30"),
        ("--idle-timeout", "soon", "off"),
        ("--poll-timeout", "256", "255"),
        ("--log-format", "xml", "json"),
        ("--log-level", "loud", "debug"),
        ("--bind-outgoing", "eth0", "address"),
    ];
    for (option, value, allowed) in cases {
        for arguments in [vec![format!("{option}={value}")], vec![option.to_owned(), value.to_owned()]] {
            if arguments.len() == 2 && value.starts_with('-') {
                continue; // As a word of its own it would be an option.
            }
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            let (code, stdout, stderr) = run(&arguments);
            assert_eq!(code, Some(2), "{option} {value}: {stderr}");
            assert!(stdout.is_empty(), "{option} {value}: {stdout}");
            assert_eq!(stderr.trim_end().lines().count(), 1, "{option} {value}: {stderr}");
            for part in [option, value, allowed] {
                assert!(stderr.contains(part), "{option} {value}: no {part:?} in: {stderr}");
            }
        }
    }
}

#[test]
fn a_bad_user_is_refused_without_repeating_the_password() {
    for value in ["alice", ":hunter2", "alice:"] {
        let (code, _, stderr) = run(&["--user", value]);
        assert_eq!(code, Some(2), "{value}: {stderr}");
        assert_eq!(stderr.trim_end().lines().count(), 1, "{stderr}");
        assert!(stderr.contains("--user") && !stderr.contains("hunter2"), "{stderr}");
    }
    let long = format!("alice:{}", "x".repeat(256));
    let (code, _, stderr) = run(&["--admin", &long]);
    assert_eq!(code, Some(2), "{stderr}");
    assert!(!stderr.contains("xxxx"), "{stderr}");
}

#[test]
fn options_that_do_not_exist_and_words_that_stand_alone_are_exit_2() {
    for arguments in [&["--sock-port", "1"][..], &["--nonsense"], &["-x"], &["word"]] {
        let (code, stdout, stderr) = run(arguments);
        assert_eq!(code, Some(2), "{arguments:?}: {stderr}");
        assert!(stdout.is_empty() && stderr.contains(arguments[0]), "{arguments:?}: {stderr}");
    }
}

#[test]
fn help_names_every_option_and_version_the_version() {
    for flag in ["-h", "--help"] {
        let (code, stdout, stderr) = run(&[flag]);
        assert_eq!((code, stderr.as_str()), (Some(0), ""), "{flag}");
        let options = [
            "-l",
            "--socks-addr",
            "-p",
            "--socks-port",
            "-L",
            "--admin-addr",
            "-P",
            "--admin-port",
            "-u",
            "--user",
            "-a",
            "--admin",
            "--doh-ip",
            "--doh-port",
            "--doh-host",
            "--doh-path",
            "--doh-query",
            "--doh-method-post",
            "-N",
            "--no-dissectors",
            "-D",
            "--no-idle-timeout",
            "-v",
            "--version",
            "-h",
            "--help",
            "--workers",
            "--auth",
            "--deny-private",
            "--bind-outgoing",
            "--dns",
            "--buffer-size",
            "--idle-timeout",
            "--poll-timeout",
            "--max-sessions",
            "--max-sessions-per-source",
            "--access-log",
            "--log-format",
            "--drain-timeout",
            "--config",
            "--users-file",
        ];
        for option in options {
            assert!(stdout.contains(option), "{flag} does not name {option}:\n{stdout}");
        }
    }
    for flag in ["-v", "--version"] {
        let (code, stdout, stderr) = run(&[flag]);
        assert_eq!((code, stderr.as_str()), (Some(0), ""), "{flag}");
        assert_eq!(stdout.trim_end(), format!("socks5d {}", env!("CARGO_PKG_VERSION")));
    }
}

#[test]
fn help_into_a_closed_pipe_is_no_failure() {
    let program = env!("CARGO_BIN_EXE_socks5d");
    let script = format!("'{program}' --help | true; exit ${{PIPESTATUS[0]}}");
    let output = std::process::Command::new("/bin/bash").args(["-c", &script]).output().unwrap();
    let (code, _, stderr) = outcome(output);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stderr.is_empty(), "{stderr}");
}

#[test]
fn a_file_of_passwords_that_others_can_read_is_refused() {
    for mode in [0o644, 0o640, 0o604, 0o666] {
        let builder = Daemon::with(&[]);
        let path = builder.file("users", "alice:hunter2\n");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let (code, _, stderr) = outcome(builder.arg("--users-file").arg(&path).run());
        assert_eq!(code, Some(2), "{mode:o}: {stderr}");
        assert!(stderr.contains(&path) && !stderr.contains("hunter2"), "{mode:o}: {stderr}");
    }
}

#[test]
fn mistakes_in_files_name_the_file_and_the_line_or_key() {
    let cases = [
        ("workers = 0\n", "workers"),
        ("workers = \"many\"\n", "workers"),
        ("\n\nworkers = \n", "line 3"),
        ("worker = 2\n", "worker"),
        ("deny-private = 1\n", "deny-private"),
        ("[section]\nworkers = 1\n", "section"),
    ];
    for (content, named) in cases {
        let builder = Daemon::with(&[]);
        let path = builder.file("config.toml", content);
        let (code, _, stderr) = outcome(builder.arg("--config").arg(&path).run());
        assert_eq!(code, Some(2), "{content:?}: {stderr}");
        assert!(stderr.contains("config.toml") && stderr.contains(named), "{content:?}: {stderr}");
    }
    let (code, _, stderr) = run(&["--config", "/nonexistent/config.toml"]);
    assert_eq!(code, Some(2), "{stderr}");
    assert!(stderr.contains("/nonexistent/config.toml"), "{stderr}");
}

#[test]
fn a_flag_wins_over_the_environment_and_the_environment_over_the_file() {
    let start = |arguments: &[&str], variable: Option<&str>| {
        let builder = Daemon::with(arguments);
        let path = builder.file("config.toml", "workers = 5\nsocks-addr = [\"127.0.0.9\"]\n");
        let builder = builder.arg("--config").arg(path);
        match variable {
            Some(value) => builder.env("SOCKS5D_WORKERS", value).start(),
            None => builder.start(),
        }
    };
    let from_file = start(&[], None);
    assert!(from_file.ready_line().contains("5 workers"), "{}", from_file.ready_line());
    assert_eq!(from_file.address().ip().to_string(), "127.0.0.9");
    let from_environment = start(&[], Some("3"));
    assert!(from_environment.ready_line().contains("3 workers"), "{}", from_environment.ready_line());
    let from_flag = start(&["--workers", "2"], Some("3"));
    assert!(from_flag.ready_line().contains("2 workers"), "{}", from_flag.ready_line());
    let said = from_flag.stderr().text();
    assert!(
        said.contains("SOCKS5D_WORKERS") && said.contains("override"),
        "what does not hold is said:\n{said}"
    );
}

#[test]
fn a_bad_variable_is_named_like_a_bad_option() {
    let (code, _, stderr) = outcome(Daemon::with(&[]).env("SOCKS5D_WORKERS", "none").run());
    assert_eq!(code, Some(2), "{stderr}");
    assert!(stderr.contains("SOCKS5D_WORKERS") && stderr.contains("none"), "{stderr}");
}

#[test]
fn the_line_at_start_tells_addresses_workers_authentication_and_resolver() {
    let daemon =
        Daemon::start(&["--workers", "3", "--user", "a:b", "--doh-ip", "127.0.0.2", "--doh-port", "5300"]);
    let line = daemon.ready_line();
    let port = daemon.address().port();
    for part in
        [format!("0.0.0.0:{port}"), format!("[::]:{port}"), "3 workers".into(), "auth required".into()]
    {
        assert!(line.contains(&part), "no {part:?} in: {line}");
    }
    assert!(line.contains("dns doh") && line.contains("127.0.0.2:5300"), "{line}");
    let anonymous = Daemon::start(&["--dns", "auto"]);
    let line = anonymous.ready_line();
    assert!(
        line.contains("auth none") && line.contains("dns auto") && line.contains("127.0.0.1:8053"),
        "{line}"
    );
}
