//! The sources together: precedence, what is reported, files on a disk, reading again, and the round trip of
//! every row.

use std::ffi::OsString;
use std::fs;
use std::net::IpAddr;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;

/// A folder of its own that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name =
            format!("socks5d-settings-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, mode: u32, text: impl AsRef<[u8]>) -> String {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// `text` without the part of paths that differs from run to run.
    fn plain(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.0.display()), "/etc/")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn flags(pairs: &[(&str, &str)]) -> Layer {
    let mut layer = Layer::new(Source::Flag);
    for (name, value) in pairs {
        layer.push(row(name).unwrap(), &format!("--{name}"), OsString::from(value));
    }
    layer
}

fn variables(pairs: &[(&str, &str)]) -> Layer {
    Layer::from_variables(pairs.iter().map(|(name, value)| (name.into(), value.into())))
}

fn resolve(options: &[(&str, &str)], environment: &[(&str, &str)]) -> Result<Resolved, SettingsError> {
    Resolved::from_layers(flags(options), variables(environment))
}

fn lines(things: &[impl ToString]) -> String {
    things.iter().map(|thing| thing.to_string() + "\n").collect()
}

fn user(name: &str, password: &str, doors: &str) -> UserSpec {
    let (name, password) = (name.as_bytes().to_vec(), password.as_bytes().to_vec());
    let admin = doors.contains('a');
    let role = if admin { Role::Admin } else { Role::User };
    UserSpec { name, password, proxy: doors.contains('p'), admin, role }
}

// ---- the table -----------------------------------------------------------------------------------------

#[test]
fn every_setting_has_the_default_that_is_documented() {
    let loopback: IpAddr = "127.0.0.1".parse().unwrap();
    let expected = Settings {
        socks_addr: vec![],
        socks_port: 1080,
        admin_addr: vec![loopback, "::1".parse().unwrap()],
        admin_port: 8080,
        admin_transport: AdminTransport::Auto,
        admin_udp_port: 9899,
        metrics_listen: vec![],
        metrics_users: 20,
        users: vec![],
        auth: AuthMode::Auto,
        doh_ip: loopback,
        doh_port: 8053,
        doh_host: "localhost".into(),
        doh_path: "/dns-query".into(),
        doh_query: "?dns=".into(),
        hosts: "/etc/hosts".into(),
        resolv_conf: "/etc/resolv.conf".into(),
        doh_method: DohMethod::Get,
        dns: DnsMode::Auto,
        workers: std::thread::available_parallelism().unwrap().get(),
        state_dir: None,
        buffer_size: 262_144,
        idle_timeout: Some(Duration::from_secs(300)),
        handshake_timeout: Duration::from_secs(10),
        connect_timeout: Duration::from_secs(10),
        half_closed_timeout: Duration::from_secs(60),
        poll_timeout: Duration::from_secs(10),
        drain_timeout: Duration::from_secs(10),
        max_sessions: None,
        max_sessions_per_source: None,
        spread_from: 64,
        deny_private: false,
        bind_outgoing: vec![],
        tcp_keepalive: Some(Duration::from_secs(60)),
        tcp_user_timeout: None,
        tcp_congestion: "auto".into(),
        mark: None,
        access_log: AccessLog::Stdout,
        log_format: LogFormat::Tab,
        log_level: log::LevelFilter::Info,
        dissector: Dissector::Off,
    };
    assert_eq!(Settings::default(), expected);
    assert_eq!(resolve(&[], &[]).unwrap().settings, expected);
}

#[test]
fn names_and_short_options_are_given_once_and_aliases_lead_somewhere() {
    let mut names = std::collections::BTreeSet::from(["help".to_owned(), "version".to_owned()]);
    let mut shorts = std::collections::BTreeSet::from(['h', 'v']);
    for row in rows() {
        assert!(names.insert(row.name.to_owned()), "{} twice", row.name);
        assert!(row.short.is_none_or(|short| shorts.insert(short)), "short option of {} twice", row.name);
        assert!(!row.help.ends_with('.') && !row.help.is_empty(), "help of {}", row.name);
        if let table::Binding::Alias { of, text } = row.binding {
            let mut settings = Settings::default();
            set(&mut settings, of, text).unwrap();
        }
    }
}

#[test]
fn the_columns_that_the_admin_channel_shows() {
    let shown: String = rows()
        .filter(|row| row.is_value() && row.name != "workers")
        .map(|row| {
            let live = if row.live { "live" } else { "start" };
            let default = row.default().unwrap();
            format!("{} | {} | {} | {} | {default} | {live}\n", row.name, row.kind(), row.unit(), row.range())
        })
        .collect();
    expect![[r#"
        socks-addr | addresses |  | up to 64 IPv4 or IPv6 addresses, or auto | auto | start
        socks-port | port |  | 0 to 65535 (0: the kernel chooses) | 1080 | start
        admin-addr | addresses |  | up to 64 IPv4 or IPv6 addresses | 127.0.0.1,::1 | start
        admin-port | port |  | 0 to 65535 (0: the kernel chooses) | 8080 | start
        admin-transport | choice |  | auto, kernel, udp or both | auto | start
        admin-udp-port | port |  | 0 to 65535 (0: the kernel chooses) | 9899 | start
        metrics-listen | endpoints |  | up to 64 addresses with ports, as 127.0.0.1:9108, or off | off | start
        auth | choice |  | auto, required, optional or none | auto | live
        deny-private | switch |  | true or false | false | live
        dns | choice |  | auto, doh or system | auto | live
        doh-ip | address |  | an IPv4 or IPv6 address | 127.0.0.1 | live
        doh-port | port |  | 1 to 65535 | 8053 | live
        doh-host | text |  | a host name or an address, with a port if need be, at most 261 octets | localhost | live
        doh-path | text |  | a slash, then visible ASCII without ? and #, at most 1024 octets | /dns-query | live
        doh-query | text |  | nothing, or ? and visible ASCII without #, at most 1024 octets | ?dns= | live
        doh-method-post | switch |  | true or false | false | live
        hosts | text |  | a path, at most 4095 octets | /etc/hosts | live
        resolv-conf | text |  | a path, at most 4095 octets | /etc/resolv.conf | live
        buffer-size | bytes | B | 512 B to 16 MiB | 256 KiB | live
        max-sessions | count | sessions | 1 to 4194304, or auto | auto | live
        max-sessions-per-source | count | sessions | 1 to 4194304, or off | off | live
        spread-from | count | sessions | 0 to 4194304 | 64 | live
        bind-outgoing | addresses |  | at most one IPv4 and one IPv6 address, or auto | auto | live
        tcp-keepalive | duration | s | 1 s to 32767 s, or off | 60 s | live
        tcp-user-timeout | duration | s | 100 ms to 86400 s, or off | off | live
        tcp-congestion | text |  | auto, or a name of tcp_available_congestion_control, at most 15 octets | auto | live
        mark | count |  | 1 to 4294967295, or off | off | live
        dissector | choice |  | off, mask or full | off | live
        idle-timeout | duration | s | 100 ms to 86400 s, or off | 300 s | live
        handshake-timeout | duration | s | 100 ms to 600 s | 10 s | live
        connect-timeout | duration | s | 100 ms to 30 s | 10 s | live
        half-closed-timeout | duration | s | 100 ms to 86400 s | 60 s | live
        poll-timeout | duration | s | 1 s to 255 s | 10 s | live
        drain-timeout | duration | s | 0 s to 3600 s | 10 s | live
        access-log | target |  | the path of a file, stdout or off | stdout | live
        log-format | choice |  | tab or json | tab | live
        log-level | choice |  | error, warn, info, debug, trace or off | info | live
        metrics-users | count | users | 0 to 1000 | 20 | live
        state-dir | text |  | an absolute path, at most 4095 octets, or auto | auto | start
    "#]].assert_eq(&shown);
}

/// A text for each row that is not its default.
fn other_value(name: &str) -> &'static str {
    match name {
        "socks-addr" | "bind-outgoing" => "192.0.2.1,2001:db8::1",
        "admin-addr" | "doh-ip" => "192.0.2.1",
        "socks-port" | "admin-port" | "admin-udp-port" | "doh-port" => "9999",
        "admin-transport" => "both",
        "state-dir" => "/var/lib/a b",
        "auth" => "required",
        "doh-host" => "relay.example:8053",
        "doh-path" => "/resolve",
        "doh-query" => "?q=1&dns=",
        "hosts" => "/tmp/my hosts",
        "resolv-conf" => "resolv.conf",
        "tcp-congestion" => "reno",
        "mark" => "17",
        "dns" => "system",
        "workers" => "1000",
        "buffer-size" => "1000 B",
        "max-sessions" | "max-sessions-per-source" | "spread-from" => "12",
        "access-log" => "/var/log/a b.log",
        "log-format" => "json",
        "log-level" => "trace",
        "doh-method-post" | "deny-private" => "true",
        "dissector" => "mask",
        "metrics-listen" => "127.0.0.1:9108,[::1]:0",
        "metrics-users" => "7",
        "idle-timeout" => "off",
        "poll-timeout" => "1500 ms",
        "tcp-keepalive" => "17 s",
        time if time.ends_with("-timeout") => "333 ms",
        other => panic!("no value for {other}: add one"),
    }
}

#[test]
fn what_every_row_shows_it_reads_back() {
    for row in rows().filter(|row| row.is_value()) {
        for text in [row.default().unwrap(), other_value(row.name).to_owned()] {
            let mut settings = Settings::default();
            set(&mut settings, row.name, &text).unwrap();
            assert_eq!(show(&settings, row.name).unwrap(), text, "{}", row.name);
            let mut again = Settings::default();
            set(&mut again, row.name, &show(&settings, row.name).unwrap()).unwrap();
            assert_eq!(again, settings, "{}", row.name);
        }
        let is_changed = {
            let mut settings = Settings::default();
            set(&mut settings, row.name, other_value(row.name)).unwrap();
            settings != Settings::default()
        };
        assert!(is_changed, "{} fills no field", row.name);
    }
}

/// Any value row and a text that it may or may not take: a number with a unit, a word of some row, or noise.
fn row_and_text() -> impl Strategy<Value = (&'static Row, String)> {
    let rows: Vec<&Row> = rows().filter(|row| row.is_value()).collect();
    let words: Vec<String> = rows.iter().map(|row| other_value(row.name).to_owned()).collect();
    let text = prop_oneof![
        "[0-9]{1,6} ?(ms|s|m|h|B|K|MiB)?",
        "([0-9]{1,3}[.]){3}[0-9]{1,3}(,::[0-9a-f]{1,4}){0,2}",
        proptest::sample::select(words),
        "[ -~é]{0,12}",
    ];
    (proptest::sample::select(rows), text)
}

proptest! {
    #[test]
    fn whatever_a_row_takes_survives_being_shown((row, text) in row_and_text()) {
        let mut settings = Settings::default();
        if set(&mut settings, row.name, &text).is_ok() {
            let mut again = Settings::default();
            set(&mut again, row.name, &show(&settings, row.name).unwrap()).unwrap();
            prop_assert_eq!(again, settings);
        } else {
            prop_assert_eq!(settings, Settings::default(), "a refused value changed something");
        }
    }
}

#[test]
fn refused_values_say_what_is_allowed() {
    let mut settings = Settings::default();
    let mut refused = |name: &str, text: &str| set(&mut settings, name, text).unwrap_err().to_string();
    let errors = [
        refused("buffer-size", "12"),
        refused("bufer-size", "12"),
        refused("zzz", "12"),
        refused("user", "alice:hunter2"),
        refused("no-idle-timeout", "true"),
        refused("doh-host", "a\r\nX: y"),
        refused("doh-path", "dns-query"),
        refused("doh-query", "?a b"),
        refused("doh-port", "0"),
        refused("connect-timeout", "31"),
        refused("dissector", "on"),
        refused("bind-outgoing", "10.0.0.1,10.0.0.2"),
    ];
    assert_eq!(settings, Settings::default());
    expect![[r#"
        buffer-size: "12" is not allowed: 512 B to 16 MiB
        bufer-size: no such setting; did you mean buffer-size?
        zzz: no such setting
        user: cannot be set as a value
        no-idle-timeout: cannot be set as a value
        doh-host: "a\r\nX: y" is not allowed: a host name or an address, with a port if need be, at most 261 octets
        doh-path: "dns-query" is not allowed: a slash, then visible ASCII without ? and #, at most 1024 octets
        doh-query: "?a b" is not allowed: nothing, or ? and visible ASCII without #, at most 1024 octets
        doh-port: "0" is not allowed: 1 to 65535
        connect-timeout: "31" is not allowed: 100 ms to 30 s
        dissector: "on" is not allowed: off, mask or full
        bind-outgoing: "10.0.0.2" as well is not allowed: at most one IPv4 and one IPv6 address, or auto
    "#]].assert_eq(&lines(&errors));
}

// ---- precedence ----------------------------------------------------------------------------------------

#[test]
fn each_source_overrides_the_weaker_ones_and_says_so() {
    let folder = Folder::new();
    let config =
        folder.write("socks5d.toml", 0o644, "buffer-size = \"1K\"\nworkers = 2\nlog-level = 'warn'\n");
    let environment = [("SOCKS5D_BUFFER_SIZE", "2K"), ("SOCKS5D_WORKERS", "3"), ("SOCKS5D_CONFIG", &config)];
    let mut resolved = resolve(&[("buffer-size", "3K")], &environment).unwrap();
    let settings = &resolved.settings;
    assert_eq!((settings.buffer_size, settings.workers), (3072, 3));
    assert_eq!(settings.log_level, log::LevelFilter::Warn);
    let source = |resolved: &Resolved, name| resolved.sources.of(name);
    assert_eq!(source(&resolved, "buffer-size"), Source::Flag);
    assert_eq!(source(&resolved, "workers"), Source::Environment);
    assert_eq!(source(&resolved, "log-level"), Source::File);
    assert_eq!(source(&resolved, "auth"), Source::Default);
    expect![[r#"
        buffer-size: "2 KiB" of SOCKS5D_BUFFER_SIZE overrides "1 KiB" of /etc/socks5d.toml: buffer-size
        workers: "3" of SOCKS5D_WORKERS overrides "2" of /etc/socks5d.toml: workers
        buffer-size: "3 KiB" of --buffer-size overrides "2 KiB" of SOCKS5D_BUFFER_SIZE
    "#]]
    .assert_eq(&folder.plain(&lines(&resolved.overridden)));

    resolved.change("buffer-size", "4K").unwrap();
    assert_eq!((resolved.settings.buffer_size, source(&resolved, "buffer-size")), (4096, Source::Runtime));
    resolved.reset("buffer-size").unwrap();
    assert_eq!((resolved.settings.buffer_size, source(&resolved, "buffer-size")), (3072, Source::Flag));
    resolved.change("auth", "none").unwrap();
    resolved.reset("auth").unwrap();
    assert_eq!((resolved.settings.auth, source(&resolved, "auth")), (AuthMode::Auto, Source::Default));
}

#[test]
fn only_live_values_change_at_run_time() {
    let mut resolved = resolve(&[], &[]).unwrap();
    let before = format!("{resolved:?}");
    let mut refused = |name, text| resolved.change(name, text).unwrap_err().to_string();
    assert_eq!(refused("workers", "2"), "workers: takes effect at the next start only");
    assert_eq!(refused("user", "a:b"), "user: cannot be set as a value");
    assert_eq!(refused("auth", "maybe"), "auth: \"maybe\" is not allowed: auto, required, optional or none");
    assert_eq!(resolved.reset("workers").unwrap_err(), BadValue::StartOnly { name: "workers" });
    assert_eq!(format!("{resolved:?}"), before);
}

#[test]
fn a_later_option_overrides_an_earlier_one_and_a_list_is_one_value() {
    let options =
        [("socks-port", "1"), ("socks-port", "2"), ("socks-addr", "::1"), ("socks-addr", "127.0.0.1")];
    let resolved = resolve(&options, &[("SOCKS5D_SOCKS_ADDR", "192.0.2.1")]).unwrap();
    assert_eq!(resolved.settings.socks_port, 2);
    assert_eq!(show(&resolved.settings, "socks-addr").unwrap(), "::1,127.0.0.1");
    expect![[r#"
        socks-port: "2" of --socks-port overrides "1" of --socks-port
        socks-addr: "::1,127.0.0.1" of --socks-addr overrides "192.0.2.1" of SOCKS5D_SOCKS_ADDR
    "#]]
    .assert_eq(&lines(&resolved.overridden));
}

#[test]
fn a_weaker_value_is_checked_as_well() {
    let error = resolve(&[("workers", "2")], &[("SOCKS5D_WORKERS", "none")]).unwrap_err().to_string();
    assert_eq!(error, "SOCKS5D_WORKERS: \"none\" is not allowed: 1 to 1024");
}

#[test]
fn switches_stand_for_values_and_can_be_taken_back() {
    let check = |options: &[(&str, &str)], environment: &[(&str, &str)], expected: Option<u64>| {
        let resolved = resolve(options, environment).unwrap();
        assert_eq!(
            resolved.settings.idle_timeout,
            expected.map(Duration::from_secs),
            "{options:?} {environment:?}"
        );
    };
    check(&[("no-idle-timeout", "true")], &[], None);
    check(&[("no-idle-timeout", "true")], &[("SOCKS5D_IDLE_TIMEOUT", "20")], None);
    check(&[("idle-timeout", "20")], &[("SOCKS5D_NO_IDLE_TIMEOUT", "true")], Some(20));
    check(&[("no-idle-timeout", "true"), ("idle-timeout", "20")], &[], Some(20));
    check(&[("idle-timeout", "20"), ("no-idle-timeout", "true")], &[], None);
    check(&[("no-idle-timeout", "false")], &[("SOCKS5D_NO_IDLE_TIMEOUT", "1")], Some(300));
    check(&[("no-idle-timeout", "true"), ("no-idle-timeout", "false")], &[], Some(300));
    check(&[], &[("SOCKS5D_NO_IDLE_TIMEOUT", "0"), ("SOCKS5D_IDLE_TIMEOUT", "20")], Some(20));
    check(&[], &[("SOCKS5D_NO_IDLE_TIMEOUT", "1"), ("SOCKS5D_IDLE_TIMEOUT", "off")], None);

    let both = [("SOCKS5D_NO_IDLE_TIMEOUT", "1"), ("SOCKS5D_IDLE_TIMEOUT", "20")];
    let error = resolve(&[], &both).unwrap_err().to_string();
    assert_eq!(error, "SOCKS5D_NO_IDLE_TIMEOUT: contradicts SOCKS5D_IDLE_TIMEOUT; give one of them");
    let error = resolve(&[("no-dissectors", "maybe")], &[]).unwrap_err().to_string();
    assert_eq!(error, "--no-dissectors: \"maybe\" is not allowed: true or false");
    let resolved = resolve(&[("doh-method-post", "true"), ("deny-private", "true")], &[]).unwrap();
    assert!(resolved.settings.doh_method == DohMethod::Post && resolved.settings.deny_private);
}

#[test]
fn naming_a_relay_means_doh_unless_dns_says_otherwise() {
    let check = |options: &[(&str, &str)], environment: &[(&str, &str)], dns: DnsMode, source: Source| {
        let resolved = resolve(options, environment).unwrap();
        assert_eq!((resolved.settings.dns, resolved.sources.of("dns")), (dns, source), "{options:?}");
    };
    check(&[], &[], DnsMode::Auto, Source::Default);
    check(&[("doh-ip", "192.0.2.1")], &[], DnsMode::Doh, Source::Flag);
    check(&[("doh-path", "/dns-query")], &[], DnsMode::Doh, Source::Flag);
    check(&[], &[("SOCKS5D_DOH_HOST", "relay")], DnsMode::Doh, Source::Environment);
    check(
        &[("doh-port", "53"), ("doh-query", "?q="), ("doh-method-post", "true")],
        &[],
        DnsMode::Auto,
        Source::Default,
    );
    check(&[("doh-ip", "192.0.2.1")], &[("SOCKS5D_DNS", "auto")], DnsMode::Auto, Source::Environment);
    check(&[("doh-ip", "192.0.2.1"), ("dns", "system")], &[], DnsMode::System, Source::Flag);

    let mut resolved = resolve(&[], &[]).unwrap();
    resolved.change("doh-ip", "192.0.2.1").unwrap();
    assert_eq!(resolved.settings.dns, DnsMode::Auto);
    assert_eq!(resolved.reload().unwrap().resolved.settings.dns, DnsMode::Auto);
}

// ---- users ---------------------------------------------------------------------------------------------

#[test]
fn users_of_all_sources_come_together() {
    let folder = Folder::new();
    let text = "# staff\nalice:a1\n\nbob:b1:admin\r\nalice:a2\n";
    let users = folder.write("users", 0o600, text);
    let config = folder.write("socks5d.toml", 0o600, format!("users-file = {users:?}\nuser = 'carol:c1'\n"));
    let options =
        [("config", config.as_str()), ("user", "bob:b2"), ("admin", "dave:d:1"), ("user", "dave:d:1")];
    let environment = [("SOCKS5D_USER", "erin:e,1\ncarol:c2"), ("SOCKS5D_ADMIN", "carol:c2")];
    let resolved = resolve(&options, &environment).unwrap();
    let expected = [
        user("carol", "c2", "pa"),
        user("alice", "a2", "p"),
        user("bob", "b2", "p"),
        user("erin", "e,1", "p"),
        user("dave", "d:1", "pa"),
    ];
    assert_eq!(resolved.settings.users, expected);
    assert_eq!(show(&resolved.settings, "admin").unwrap(), "carol,dave");
    assert_eq!((resolved.sources.of("user"), resolved.sources.of("admin")), (Source::Flag, Source::Flag));
    expect![[r#"
        user: alice of /etc/users: line 5 overrides alice of /etc/users: line 2
        user: carol of SOCKS5D_USER overrides carol of /etc/socks5d.toml: user
        user: bob of --user overrides bob of /etc/users: line 4
    "#]]
    .assert_eq(&folder.plain(&lines(&resolved.overridden)));
    let debug = format!("{resolved:?}");
    assert!(["a2", "b2", "c2", "e,1", "d:1"].iter().all(|password| !debug.contains(password)), "{debug}");
}

#[test]
fn a_user_of_both_doors_has_one_password() {
    let error = resolve(&[("user", "a:1"), ("admin", "a:2")], &[]).unwrap_err().to_string();
    assert_eq!(error, "--admin: user a has another password at --user; one name has one password");
}

#[test]
fn a_users_file_that_others_can_open_is_refused() {
    let folder = Folder::new();
    for mode in [0o640, 0o604, 0o644, 0o620, 0o601] {
        let users = folder.write("users", mode, "alice:hunter2\n");
        let error = resolve(&[("users-file", &users)], &[]).unwrap_err().to_string();
        let expected = format!(
            "--users-file: \"/etc/users\" has mode {mode:04o}, so that others can open it; make it 0600"
        );
        assert_eq!(folder.plain(&error), expected);
    }
    for mode in [0o600, 0o400, 0o700] {
        let users = folder.write("users", mode, "alice:hunter2\n");
        let resolved = resolve(&[("users-file", &users)], &[]).unwrap();
        assert_eq!(resolved.settings.users, [user("alice", "hunter2", "p")], "{mode:o}");
        fs::remove_file(&users).unwrap();
    }
}

#[test]
fn errors_of_a_users_file_name_the_line_and_no_password() {
    let folder = Folder::new();
    let long = format!("alice:{}", "hunter2".repeat(40));
    let contents = ["alice:ok\n# c\nhunter2\n", "alice:\n", "\n:hunter2\n", &long, "root::admin"];
    let errors = contents.map(|text| {
        let users = folder.write("users", 0o600, text);
        resolve(&[("users-file", &users)], &[]).unwrap_err().to_string()
    });
    assert!(errors.iter().all(|error| !error.contains("hunter2")));
    expect![[r#"
        /etc/users: line 3: a value without a colon is not allowed: NAME:PASS, NAME:PASS:observer, NAME:PASS:operator or NAME:PASS:admin, name and password of 1 to 255 octets
        /etc/users: line 1: an empty password is not allowed: NAME:PASS, NAME:PASS:observer, NAME:PASS:operator or NAME:PASS:admin, name and password of 1 to 255 octets
        /etc/users: line 2: an empty name is not allowed: NAME:PASS, NAME:PASS:observer, NAME:PASS:operator or NAME:PASS:admin, name and password of 1 to 255 octets
        /etc/users: line 1: a password of more than 255 octets is not allowed: NAME:PASS, NAME:PASS:observer, NAME:PASS:operator or NAME:PASS:admin, name and password of 1 to 255 octets
        /etc/users: line 1: an empty password is not allowed: NAME:PASS, NAME:PASS:observer, NAME:PASS:operator or NAME:PASS:admin, name and password of 1 to 255 octets
    "#]].assert_eq(&folder.plain(&lines(&errors)));
}

#[test]
fn users_need_not_be_utf8() {
    let mut options = Layer::new(Source::Flag);
    options.push(row("user").unwrap(), "--user", OsString::from_vec(b"\xff:\xfe".to_vec()));
    let folder = Folder::new();
    let users = folder.write("users", 0o600, b"\x80:\x81:admin");
    options.push(row("users-file").unwrap(), "--users-file", users.into());
    let resolved = Resolved::from_layers(options, variables(&[])).unwrap();
    let names: Vec<&[u8]> = resolved.settings.users.iter().map(|user| user.name.as_slice()).collect();
    assert_eq!(names, [b"\x80", b"\xff"]);
    assert_eq!(show(&resolved.settings, "user").unwrap(), "\\x80,\\xff");
}

// ---- files ---------------------------------------------------------------------------------------------

#[test]
fn a_configuration_file_that_does_not_serve_is_one_line() {
    let folder = Folder::new();
    let mut errors = Vec::new();
    let mut refused = |text: &str| {
        let config = folder.write("socks5d.toml", 0o644, text);
        errors.push(resolve(&[("config", &config)], &[]).unwrap_err().to_string());
    };
    refused("buffer-size = 12\n");
    refused("buffer-size = \"lots\"\n");
    refused("socks-addr = [\"::1\", \"localhost\"]\n");
    refused("user = [\"alice:secret\", \"hunter2\"]\n");
    refused("no-idle-timeout = true\nidle-timeout = 20\n");
    refused("users-file = \"/nonexistent/users\"\n");
    refused(&"# long\n".repeat(crate::limits::CONFIG_FILE_BYTES_MAX / 7 + 1));
    errors.push(resolve(&[("config", "/nonexistent/a\nb")], &[]).unwrap_err().to_string());
    errors.push(resolve(&[], &[("SOCKS5D_CONFIG", folder.0.to_str().unwrap())]).unwrap_err().to_string());
    assert!(errors.iter().all(|error| !error.contains('\n') && !error.contains("hunter2")));
    let text = folder.plain(&lines(&errors)).replace(folder.0.to_str().unwrap(), "/etc");
    expect![[r#"
        /etc/socks5d.toml: buffer-size: "12" is not allowed: 512 B to 16 MiB
        /etc/socks5d.toml: buffer-size: "lots" is not allowed: 512 B to 16 MiB
        /etc/socks5d.toml: socks-addr: "localhost" is not allowed: up to 64 IPv4 or IPv6 addresses, or auto
        /etc/socks5d.toml: user: a value without a colon is not allowed: NAME:PASS, each of 1 to 255 octets
        /etc/socks5d.toml: no-idle-timeout: contradicts /etc/socks5d.toml: idle-timeout; give one of them
        /etc/socks5d.toml: users-file: "/nonexistent/users" cannot be read: No such file or directory (os error 2)
        --config: "/etc/socks5d.toml" is not allowed: at most 1048576 bytes
        --config: "/nonexistent/a\nb" cannot be read: No such file or directory (os error 2)
        SOCKS5D_CONFIG: "/etc" cannot be read: Is a directory (os error 21)
    "#]].assert_eq(&text);
}

#[test]
fn passwords_in_a_configuration_file_that_others_can_read_are_warned_about() {
    let folder = Folder::new();
    let config = folder.write("socks5d.toml", 0o644, "user = 'alice:hunter2'\n");
    let resolved = resolve(&[("config", &config)], &[]).unwrap();
    let expected = "/etc/socks5d.toml: holds passwords and has mode 0644: others can read them\n";
    assert_eq!(folder.plain(&lines(&resolved.warnings)), expected);
    let config = folder.write("socks5d.toml", 0o600, "user = 'alice:hunter2'\n");
    assert_eq!(resolve(&[("config", &config)], &[]).unwrap().warnings, Vec::<String>::new());
}

#[test]
fn the_stronger_source_names_the_files() {
    let folder = Folder::new();
    let one = folder.write("one.toml", 0o644, "workers = 1\n");
    let two = folder.write("two.toml", 0o644, "workers = 2\n");
    let resolved = resolve(&[("config", &two)], &[("SOCKS5D_CONFIG", &one)]).unwrap();
    assert_eq!(resolved.settings.workers, 2);
    let overridden = folder.plain(&lines(&resolved.overridden));
    assert_eq!(
        overridden,
        "config: \"/etc/two.toml\" of --config overrides \"/etc/one.toml\" of SOCKS5D_CONFIG\n"
    );
}

// ---- reading again -------------------------------------------------------------------------------------

fn reload_lines(folder: &Folder, resolved: &Resolved, expected: &Expect) -> Option<Resolved> {
    let (text, resolved) = match resolved.reload() {
        Ok(reloaded) => {
            (format!("live {:?}, restart {:?}", reloaded.live, reloaded.restart), Some(reloaded.resolved))
        }
        Err(error) => (folder.plain(&error.to_string()), None),
    };
    expected.assert_eq(&text);
    resolved
}

#[test]
fn reloading_takes_up_what_is_live_and_names_what_is_not() {
    let folder = Folder::new();
    let write = |text: &str| folder.write("socks5d.toml", 0o600, text);
    let users = folder.write("users", 0o600, "alice:1\n");
    let config = write("workers = 2\nbuffer-size = '1K'\nlog-level = 'warn'\n");
    let options = [("config", config.as_str()), ("users-file", users.as_str()), ("log-level", "debug")];
    let mut running = resolve(&options, &[]).unwrap();
    running.change("idle-timeout", "20").unwrap();
    running = reload_lines(&folder, &running, &expect![[r#"live [], restart []"#]]).unwrap();

    write("workers = 3\nbuffer-size = '2K'\nlog-level = 'error'\nidle-timeout = 30\n");
    folder.write("users", 0o600, "alice:2\nroot:r:admin\n");
    let reloaded = reload_lines(
        &folder,
        &running,
        &expect![[r#"live ["user", "admin", "buffer-size"], restart ["workers"]"#]],
    )
    .unwrap();
    let settings = &reloaded.settings;
    assert_eq!((settings.workers, settings.buffer_size), (2, 2048));
    assert_eq!(settings.log_level, log::LevelFilter::Debug, "the option still overrides");
    assert_eq!(settings.idle_timeout, Some(Duration::from_secs(20)), "the change at run time stays");
    assert_eq!(settings.users, [user("alice", "2", "p"), user("root", "r", "pa")]);
    running = reload_lines(&folder, &reloaded, &expect![[r#"live [], restart ["workers"]"#]]).unwrap();
    running.reset("idle-timeout").unwrap();
    assert_eq!(running.settings.idle_timeout, Some(Duration::from_secs(30)));

    write("workers = 2\n");
    let reloaded =
        reload_lines(&folder, &running, &expect![[r#"live ["buffer-size", "idle-timeout"], restart []"#]])
            .unwrap();
    assert_eq!(reloaded.settings.buffer_size, 262_144);
    assert_eq!(reloaded.sources.of("buffer-size"), Source::Default);
}

#[test]
fn a_bad_file_changes_nothing() {
    let folder = Folder::new();
    let users = folder.write("users", 0o600, "alice:1\n");
    let config = folder.write("socks5d.toml", 0o600, "workers = 2\n");
    let running = resolve(&[("config", &config), ("users-file", &users)], &[]).unwrap();
    let before = running.settings.clone();

    folder.write("socks5d.toml", 0o600, "buffer-size = '2K'\nauth = 'maybe'\n");
    reload_lines(
        &folder,
        &running,
        &expect![[r#"/etc/socks5d.toml: auth: "maybe" is not allowed: auto, required, optional or none"#]],
    );
    folder.write("socks5d.toml", 0o600, "buffer-size = '2K'\n");
    folder.write("users", 0o644, "mallory:1\n");
    reload_lines(
        &folder,
        &running,
        &expect![[r#"--users-file: "/etc/users" has mode 0644, so that others can open it; make it 0600"#]],
    );
    fs::remove_file(&users).unwrap();
    reload_lines(
        &folder,
        &running,
        &expect![[r#"--users-file: "/etc/users" cannot be read: No such file or directory (os error 2)"#]],
    );
    fs::create_dir(&users).unwrap();
    reload_lines(
        &folder,
        &running,
        &expect![[r#"--users-file: "/etc/users" is not a regular file and cannot be read again"#]],
    );
    assert_eq!(running.settings, before);
}
