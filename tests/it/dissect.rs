//! Credentials in clear are noticed for those who asked for it: with real servers and clients, only when the
//! origin took them, and without a change to a single byte.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use pipo_protocol::v2::events::Happening;
use pipo_protocol::v2::messages::{EventKind, EventsFollow};
use pipo_protocol::v2::{Request, Status};
use rustix::process::Signal;
use serde_json::Value;

use crate::harness::admin::AdminClient;
use crate::harness::admin_v2::{CREDIT, Client2};
use crate::harness::client::{CONNECT, NO_AUTH, greeting, request};
use crate::harness::machine::{exclusive, free_port, program};
use crate::harness::nginx::{Nginx, OriginFile, PAGE, fetch};
use crate::harness::origin::{Origin, V4};
use crate::harness::process::Process;
use crate::harness::{Client, Daemon, TempDir, connect_through, eventually};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const REFUSED: &str = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno";

/// A request with the Basic credentials `USER:PASSWORD`, which are given in base64.
fn asks_with(credentials: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Basic {credentials}\r\n\r\n")
}

/// `al:pw` and `bo:x:y` in base64.
const AL: &str = "YWw6cHc=";
const BO: &str = "Ym86eDp5";

fn curl(arguments: &[&str]) -> Output {
    Command::new(program("curl", "curl"))
        .args(["--silent", "--show-error", "--max-time", "30", "--noproxy", ""])
        .args(arguments)
        .output()
        .unwrap()
}

/// What the log tells about credentials, from the user's name on.
fn noticed(daemon: &Daemon) -> Vec<String> {
    let lines = daemon.stdout().all();
    let fields = lines.iter().map(|line| line.split('\t').collect::<Vec<_>>());
    fields.filter(|fields| fields.get(2) == Some(&"P")).map(|fields| fields[1..].join(" ")).collect()
}

/// Waits for that many lines about credentials.
fn wait_noticed(daemon: &Daemon, count: usize) -> Vec<String> {
    eventually("credentials in the log", || noticed(daemon).len() >= count);
    noticed(daemon)
}

/// Lines of one worker are in the order of what happened.
const ONE_WORKER: [&str; 4] = ["--dissector", "full", "--workers", "1"];

/// A session that certainly shows in the log after everything that the one worker looked at before it: its own
/// credentials are the last line.
fn mark(daemon: &Daemon) -> Vec<String> {
    let marks_count = || noticed(daemon).iter().filter(|line| line.ends_with(" end end")).count();
    let before = marks_count();
    let origin = answers(vec![OK.into()]);
    let mut client = connect_through(daemon.address(), origin.address());
    client.send(asks_with("ZW5kOmVuZA==").as_bytes());
    assert_eq!(client.read(OK.len()), OK.as_bytes());
    eventually("the last credentials", || marks_count() > before);
    noticed(daemon).into_iter().filter(|line| !line.ends_with(" end end")).collect()
}

/// An origin that gives these answers, one after each request head.
fn answers(answers: Vec<String>) -> Origin {
    Origin::serve(V4, move |mut stream| {
        for answer in &answers {
            if !read_head(&mut stream) || stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
        drop(stream.read(&mut [0; 1]));
    })
}

/// Reads to the end of a head; `false`: to the end of everything.
fn read_head(stream: &mut TcpStream) -> bool {
    let mut head = Vec::new();
    let mut octet = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut octet) {
            Ok(1) => head.push(octet[0]),
            Ok(_) | Err(_) => return false,
        }
    }
    true
}

// ---- real servers and clients ---------------------------------------------------------------------------

#[test]
fn curl_and_nginx_with_basic_credentials_are_noticed_once_they_are_right() {
    let folder = TempDir::new();
    let port = free_port();
    folder.file("passwords", "al:{PLAIN}p w d\n");
    folder.file("index.html", PAGE);
    let path = folder.path().display();
    let user = if rustix::process::getuid().is_root() { "user root;" } else { "" };
    let configuration = format!(
        "{user} daemon off; master_process off; pid {path}/pid; error_log stderr crit; events {{ }}
        http {{
            access_log off; client_body_temp_path {path}/body; proxy_temp_path {path}/proxy;
            fastcgi_temp_path {path}/fastcgi; uwsgi_temp_path {path}/uwsgi; scgi_temp_path {path}/scgi;
            server {{
                listen 127.0.0.1:{port}; root {path}; auth_basic closed; auth_basic_user_file {path}/passwords;
            }}
        }}"
    );
    let configuration = folder.file("nginx.conf", configuration);
    let mut command = Command::new(program("nginx", "nginx-light"));
    command.arg("-p").arg(folder.path()).args(["-e", "stderr", "-c"]).arg(configuration);
    let mut nginx = Process::start("nginx", command.stdout(Stdio::null()));
    nginx.wait_ready(|| TcpStream::connect((V4, port)).is_ok());

    let daemon = Daemon::start(&ONE_WORKER);
    let proxy = daemon.address().to_string();
    let url = format!("http://localhost:{port}/index.html");
    let fetch = |credentials: &[&str]| {
        let output = curl(&[&["--socks5-hostname", &proxy, &url], credentials].concat());
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(fetch(&[]).contains("401"), "nginx asks for credentials");
    assert!(fetch(&["--user", "al:wrong"]).contains("401"), "nginx refuses");
    assert_eq!(mark(&daemon), Vec::<String>::new());
    assert_eq!(fetch(&["--user", "al:p w d"]), PAGE);
    // First without, on the same connection then with credentials.
    assert_eq!(fetch(&["--anyauth", "--user", "al:p w d"]), PAGE);
    let expected = format!("anonymous P HTTP localhost {port} al p w d");
    assert_eq!(mark(&daemon), [expected.clone(), expected]);
}

/// dovecot with POP3 in clear and one user.
fn dovecot(folder: &TempDir, port: u16) -> Process {
    let path = folder.path().display();
    let passwords = folder.file("passwords", "al:{PLAIN}p w::::::\n");
    std::fs::create_dir_all(folder.path().join("mail")).unwrap();
    let id = |option: &str| {
        let output = Command::new("id").arg(option).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    // Root starts it as the package's users, whom it insists on; anybody else as themselves.
    let (login, internal, group, mail) = if rustix::process::getuid().is_root() {
        let owned = Command::new("chown").arg("mail:mail").arg(folder.path().join("mail")).status().unwrap();
        assert!(owned.success(), "the user mail of Debian has its folder");
        ("dovenull".to_owned(), "dovecot".to_owned(), "dovecot".to_owned(), "uid=mail gid=mail".to_owned())
    } else {
        (id("-un"), id("-un"), id("-gn"), format!("uid={} gid={}", id("-u"), id("-g")))
    };
    let configuration = format!(
        "protocols = pop3
        listen = 127.0.0.1
        base_dir = {path}/run
        state_dir = {path}/run
        log_path = /dev/stderr
        ssl = no
        disable_plaintext_auth = no
        auth_mechanisms = plain
        auth_failure_delay = 0
        default_login_user = {login}
        default_internal_user = {internal}
        default_internal_group = {group}
        first_valid_uid = 1
        mail_location = maildir:{path}/mail
        service pop3-login {{
          chroot =
          inet_listener pop3 {{
            port = {port}
          }}
          inet_listener pop3s {{
            port = 0
          }}
        }}
        service anvil {{
          chroot =
        }}
        passdb {{
          driver = passwd-file
          args = {}
        }}
        userdb {{
          driver = static
          args = {mail} home={path}
        }}\n",
        passwords.display(),
    );
    let configuration = folder.file("dovecot.conf", configuration);
    let mut command = Command::new(program("dovecot", "dovecot-pop3d"));
    command.arg("-F").arg("-c").arg(configuration);
    let mut process = Process::start("dovecot", command.stdout(Stdio::null()));
    process.wait_ready(|| TcpStream::connect((V4, port)).is_ok());
    process
}

#[test]
fn curl_and_dovecot_with_pop3_are_noticed_once_they_are_right() {
    let folder = TempDir::new();
    let port = free_port();
    let _dovecot = dovecot(&folder, port);
    let daemon = Daemon::start(&ONE_WORKER);
    let proxy = daemon.address().to_string();
    let url = format!("pop3://localhost:{port}/");
    let fetch = |options: &[&str], credentials: &str| {
        let output = curl(&[&["--socks5-hostname", &proxy, &url, "--user", credentials], options].concat());
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    // curl takes SASL where the server offers it, so this is said by hand.
    let log_in = |lines: [&str; 2]| {
        let mut client = connect_through(daemon.address(), ("localhost", port));
        let mut replies = BufReader::new(client.stream.try_clone().unwrap()).lines();
        let mut next = || replies.next().unwrap().unwrap();
        assert!(next().starts_with("+OK"));
        lines.map(|line| {
            client.send(line.as_bytes());
            next().starts_with("+OK")
        })
    };
    let (code, text) = fetch(&["--login-options", "AUTH=PLAIN"], "al:wrong");
    assert_eq!(code, Some(67), "log-in denied: {text}");
    assert_eq!(log_in(["USER al\r\n", "PASS wrong\r\n"]), [true, false]);
    assert_eq!(mark(&daemon), Vec::<String>::new());
    assert_eq!(log_in(["USER al\r\n", "PASS p w\r\n"]), [true, true]);
    // AUTH PLAIN with its continuation, and in one line.
    for options in [&["--login-options", "AUTH=PLAIN"][..], &["--login-options", "AUTH=PLAIN", "--sasl-ir"]] {
        let (code, text) = fetch(options, "al:p w");
        assert_eq!(code, Some(0), "{options:?}: {text}");
    }
    assert_eq!(mark(&daemon), vec![format!("anonymous P POP3 localhost {port} al p w"); 3]);
}

// ---- how bytes come -------------------------------------------------------------------------------------

#[test]
fn credentials_that_come_with_the_request_or_byte_by_byte_are_noticed() {
    let origin = answers(vec![OK.into(), REFUSED.into(), OK.into()]);
    let daemon = Daemon::start(&["--dissector", "full"]);
    let pipelined = [asks_with(AL), asks_with("bm86bm8="), asks_with(BO)].concat();
    let all = [OK, REFUSED, OK].concat();
    let expected =
        ["al pw", "bo x:y"].map(|found| format!("anonymous P HTTP 127.0.0.1 {} {found}", origin.port()));

    // Everything at once, ahead of every reply.
    let mut eager = Client::connect(daemon.address());
    let to = origin.address().into();
    eager.send(&[&greeting(&[NO_AUTH])[..], &request(CONNECT, &to), pipelined.as_bytes()].concat());
    assert_eq!(eager.method(), NO_AUTH);
    assert_eq!(eager.reply().code, 0);
    assert_eq!(eager.read(all.len()), all.as_bytes());
    assert_eq!(wait_noticed(&daemon, 2), expected);

    let mut slow = connect_through(daemon.address(), origin.address());
    slow.send_singly(pipelined.as_bytes());
    assert_eq!(slow.read(all.len()), all.as_bytes());
    assert_eq!(wait_noticed(&daemon, 4)[2..], expected);
}

#[test]
fn tls_goes_through_untouched_and_unlooked_at() {
    let folder = TempDir::new();
    let port = free_port();
    let (key, certificate) = (folder.path().join("key"), folder.path().join("certificate"));
    let openssl = || Command::new(program("openssl", "openssl"));
    let made = openssl()
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-batch"])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "2"])
        .args(["-keyout".as_ref(), key.as_os_str(), "-out".as_ref(), certificate.as_os_str()])
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let mut command = openssl();
    command
        .args(["s_server", "-quiet", "-WWW", "-accept", &format!("127.0.0.1:{port}")])
        .args(["-key".as_ref(), key.as_os_str(), "-cert".as_ref(), certificate.as_os_str()])
        .current_dir(folder.path());
    folder.file("page", PAGE);
    let mut server = Process::start("openssl", command.stdout(Stdio::null()));
    server.wait_ready(|| TcpStream::connect((V4, port)).is_ok());
    let daemon = Daemon::start(&ONE_WORKER);
    let output = curl(&[
        "--socks5-hostname",
        &daemon.address().to_string(),
        "--cacert",
        &certificate.display().to_string(),
        "--user",
        "al:pw",
        &format!("https://localhost:{port}/page"),
    ]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), PAGE, "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(mark(&daemon), Vec::<String>::new());
}

#[test]
fn a_large_download_arrives_whole_while_it_is_looked_at() {
    let _alone = exclusive();
    let nginx = Nginx::start();
    let daemon = Daemon::start(&["--dissector", "full"]);
    let expected = OriginFile::Large.hash();
    let mut client = connect_through(daemon.address(), nginx.address(V4));
    assert_eq!(fetch(&mut client.stream, OriginFile::Large), expected);
}

// ---- who may see what -----------------------------------------------------------------------------------

/// Sends credentials that the origin takes.
fn send_credentials(daemon: &Daemon) -> Origin {
    let origin = answers(vec![OK.into()]);
    let mut client = connect_through(daemon.address(), origin.address());
    client.send(asks_with(AL).as_bytes());
    assert_eq!(client.read(OK.len()), OK.as_bytes());
    origin
}

#[test]
fn nothing_is_noticed_unless_asked_for() {
    for arguments in [&[][..], &["--dissector", "off"], &["-N"]] {
        let daemon = Daemon::start(arguments);
        send_credentials(&daemon);
        let echo = Origin::echo(V4);
        connect_through(daemon.address(), echo.address()).assert_echo(b"over");
        assert_eq!(noticed(&daemon), Vec::<String>::new());
        assert!(!daemon.stderr().text().contains("in clear"), "{}", daemon.stderr().text());
    }
}

#[test]
fn mask_shows_stars_and_who_turned_it_on() {
    let daemon = Daemon::start(&["--dissector", "mask"]);
    let origin = send_credentials(&daemon);
    assert_eq!(wait_noticed(&daemon, 1), [format!("anonymous P HTTP 127.0.0.1 {} al ***", origin.port())]);
    let warning = daemon.stderr().wait_for("send in clear are logged");
    assert!(warning.contains("WARN") && warning.ends_with("dissector=mask source=flag"), "{warning}");
    assert!(!daemon.stdout().text().contains("pw"), "{}", daemon.stdout().text());
}

#[test]
fn json_lines_say_the_same() {
    let daemon = Daemon::start(&["--dissector", "full", "--log-format", "json"]);
    let origin = send_credentials(&daemon);
    let line = daemon.stdout().wait_for("\"kind\":\"credential\"");
    let record: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(record["protocol"], "HTTP");
    assert_eq!((record["user"].as_str(), record["user_found"].as_str()), (Some("anonymous"), Some("al")));
    assert_eq!(record["password_found"], "pw");
    assert_eq!(record["destination_port"], origin.port());
    let session = record["session"].as_str().unwrap();
    let access = daemon.stdout().wait_for("close_reason");
    assert!(access.contains(session), "{access}");
}

#[test]
fn version_1_turns_it_on_for_new_sessions_and_off_for_all() {
    let daemon = Daemon::start(&["--admin", "root:secret", "--workers", "1"]);
    let mut admin = AdminClient::log_in(&daemon, b"root", b"secret");
    let origin = answers(vec![OK.into(), OK.into()]);
    let ask = |client: &mut Client, credentials: &str| {
        client.send(asks_with(credentials).as_bytes());
        assert_eq!(client.read(OK.len()), OK.as_bytes());
    };
    let mut before = connect_through(daemon.address(), origin.address());
    ask(&mut before, AL);

    assert_eq!(admin.ask(b"\x01\x02\x01"), b"\x01\x02\x00");
    let warning = daemon.stderr().wait_for("send in clear are logged: dissector=full");
    assert!(warning.contains("WARN") && warning.contains("user=root source=127.0.0.1:"), "{warning}");
    ask(&mut before, AL);
    let mut during = connect_through(daemon.address(), origin.address());
    ask(&mut during, BO);
    let expected = format!("anonymous P HTTP 127.0.0.1 {} bo x:y", origin.port());
    assert_eq!(wait_noticed(&daemon, 1), std::slice::from_ref(&expected));

    assert_eq!(admin.ask(b"\x01\x02\x00"), b"\x01\x02\x00");
    daemon.stderr().wait_for("less of credentials is logged: dissector=off");
    ask(&mut during, AL);
    send_credentials(&daemon);
    assert_eq!(admin.ask(b"\x01\x02\x01"), b"\x01\x02\x00");
    assert_eq!(mark(&daemon), [expected]);
}

#[test]
fn administrators_are_told_and_nobody_else() {
    let builder = Daemon::with(&["--dissector", "full", "--auth", "none"]);
    let users = builder.file("users", "root:secret:admin\neve:pw:observer\n");
    std::fs::set_permissions(&users, std::fs::Permissions::from_mode(0o600)).unwrap();
    let daemon = builder.arg("--users-file").arg(users).start();
    let follow = |kinds: Vec<EventKind>| {
        Request::Events(EventsFollow { credit: CREDIT, from: None, kinds, filter: None })
    };
    let mut root = Client2::log_in(&daemon, b"root", b"secret");
    root.follow(&follow(vec![EventKind::Credential]), 3);
    let mut eve = Client2::log_in(&daemon, b"eve", b"pw");
    let refused = eve.send(&follow(vec![EventKind::Credential]), 2);
    assert_eq!(eve.answer_to(refused).header.status, Status::NotAllowed);
    eve.follow(&follow(Vec::new()), 3);

    let origin = send_credentials(&daemon);
    let Happening::Credential(event) = root.happening(3) else { panic!("nothing else was asked for") };
    assert_eq!((event.protocol.as_str(), event.user.as_bytes()), ("HTTP", &b"anonymous"[..]));
    assert_eq!((event.destination.as_str(), event.destination_port), ("127.0.0.1", origin.port()));
    assert_eq!((event.user_found.as_str(), event.password_found.as_str()), ("al", "pw"));
    let mut kinds = Vec::new();
    while kinds.last() != Some(&EventKind::SessionClosed) {
        match eve.happening(3) {
            Happening::Session(told) => kinds.push(told.kind),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(kinds.len(), 3, "{kinds:?}");
}

#[test]
fn a_reload_turns_it_on_and_says_from_where() {
    let builder = Daemon::with(&[]);
    let file = builder.file("socks5d.toml", "dissector = \"off\"\n");
    let mut daemon = builder.arg("--config").arg(&file).start();
    std::fs::write(&file, "dissector = \"full\"\n").unwrap();
    daemon.signal(Signal::HUP);
    daemon.stderr().wait_for("send in clear are logged: dissector=full source=file");
    let origin = send_credentials(&daemon);
    let expected = format!("anonymous P HTTP 127.0.0.1 {} al pw", origin.port());
    assert_eq!(wait_noticed(&daemon, 1), [expected]);
    assert!(
        daemon.stderr().find(Duration::ZERO, |line| line.contains("pw")).is_none(),
        "no password but in the log"
    );
}
