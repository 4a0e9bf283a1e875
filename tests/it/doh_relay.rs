//! The relay that docker/ ships, as nginx runs it: it serves the query path and nothing else, and believes an
//! upstream over TLS only when its certificate is right.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::harness::client::reply_to;
use crate::harness::dns_chain::DnsChain;
use crate::harness::dns_wire::encode_name;
use crate::harness::machine::program;
use crate::harness::origin::{Origin, V4};
use crate::harness::{Daemon, LIMIT, TempDir, connect_through};

/// One request over a connection of its own; the whole answer as text, body included.
fn ask(relay: SocketAddr, head: &str, body: &[u8]) -> String {
    let mut stream = TcpStream::connect(relay).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let request = format!("{head} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    let kind = "Content-Type: application/dns-message\r\n\r\n";
    stream.write_all(&[request.as_bytes(), length.as_bytes(), kind.as_bytes(), body].concat()).unwrap();
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer)); // A refusal may be followed by a reset.
    String::from_utf8_lossy(&answer).into_owned()
}

/// An A question for a name, RFC 1035 §4.1.
fn question(name: &str) -> Vec<u8> {
    [&[0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0], encode_name(name).as_slice(), &[0, 1, 0, 1]].concat()
}

#[test]
fn only_the_query_path_is_served_and_only_questions_pass() {
    let chain = DnsChain::start();
    let relay = chain.relay_address();
    let encoded = URL_SAFE_NO_PAD.encode(question("v4.chain.test"));
    let long = "a".repeat(9000);
    let cases: Vec<(String, Vec<u8>, &str)> = vec![
        (format!("GET /dns-query?dns={encoded}"), Vec::new(), "200"),
        ("POST /dns-query".to_owned(), question("v4.chain.test"), "200"),
        ("GET /health".to_owned(), Vec::new(), "200"),
        ("GET /".to_owned(), Vec::new(), "404"),
        (format!("GET /dns-query/?dns={encoded}"), Vec::new(), "404"),
        (format!("GET /other?dns={encoded}"), Vec::new(), "404"),
        ("GET http://example.test/".to_owned(), Vec::new(), "404"),
        (format!("PUT /dns-query?dns={encoded}"), question("v4.chain.test"), "403"),
        (format!("DELETE /dns-query?dns={encoded}"), Vec::new(), "403"),
        ("CONNECT example.test:443".to_owned(), Vec::new(), "4"),
        ("POST /dns-query".to_owned(), vec![0; 5000], "413"),
        (format!("GET /dns-query?dns={long}"), Vec::new(), "414"),
        ("GET /dns-query".to_owned(), Vec::new(), "4"),
    ];
    for (head, body, status) in cases {
        let answer = ask(relay, &head, &body);
        let shown: String = head.chars().take(60).collect();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{shown}: {answer}");
        assert!(!answer.contains("Server: nginx/"), "the version is nobody's business: {answer}");
    }
}

#[test]
fn values_that_could_change_the_configuration_are_refused() {
    let render = Path::new(env!("CARGO_MANIFEST_DIR")).join("docker/relay/render");
    for (name, value) in [
        ("RELAY_PATH", "/dns-query; return 200"),
        ("RELAY_PATH", "dns-query"),
        ("RELAY_LISTEN", "8053; }"),
        ("RELAY_UPSTREAMS", "https://a.test/q@1.1.1.1;"),
        ("RELAY_UPSTREAMS", "https://a.test/q;"),
        ("RELAY_UPSTREAMS", " "),
        ("RELAY_UPSTREAMS", "https://a|b/q@1.1.1.1"),
        ("RELAY_UPSTREAMS", "https://a.test:x/q@1.1.1.1"),
        ("RELAY_UPSTREAMS", "https://a.test"),
        ("RELAY_UPSTREAMS", "ftp://a.test/q@1.1.1.1"),
        ("RELAY_IPV6", "yes"),
        ("RELAY_RATE", "0"),
        ("RELAY_RATE", "1e3"),
    ] {
        let output = Command::new(&render).env(name, value).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{name}={value}");
        assert!(output.stdout.is_empty(), "{name}={value}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(name), "{name}={value}");
    }
}

#[test]
fn names_are_looked_up_and_ipv6_can_be_switched_off() {
    use std::os::unix::fs::PermissionsExt as _;
    let render = Path::new(env!("CARGO_MANIFEST_DIR")).join("docker/relay/render");
    let folder = TempDir::new();
    // Stands in for the one of libc, which would ask whomever this machine asks.
    let getent = "#!/bin/sh
[ \"$2\" = known.test ] || exit 2
case $1 in
    ahostsv4) printf '192.0.2.2 STREAM known.test\\n192.0.2.2 DGRAM\\n192.0.2.1 STREAM\\n' ;;
    ahostsv6) printf '2001:db8::1 STREAM known.test\\n::ffff:192.0.2.1 STREAM\\n' ;;
esac
";
    let getent = folder.file("getent", getent);
    std::fs::set_permissions(getent, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    let rendered = |urls: &str, ipv6: &str| {
        let mut command = Command::new(&render);
        command.env("PATH", &path).env("RELAY_UPSTREAMS", urls).env("RELAY_IPV6", ipv6);
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let servers = |text: &str| {
        let words = text.lines().filter_map(|line| line.trim().strip_prefix("server ")?.split(' ').next());
        words.filter(|word| !word.starts_with(['{', 'u'])).map(str::to_owned).collect::<Vec<_>>()
    };
    let (status, text) = rendered("https://known.test/q", "off");
    assert_eq!((status, servers(&text)), (Some(0), vec!["192.0.2.1:443".into(), "192.0.2.2:443".into()]));
    let (_, text) = rendered("https://known.test:8443/q", "on");
    assert_eq!(servers(&text), ["192.0.2.1:8443", "192.0.2.2:8443", "[2001:db8::1]:8443"]);
    // A name without an address is no resolver, and alone it is nothing to relay to.
    let (status, text) = rendered("https://unknown.test/q https://known.test/q", "off");
    assert_eq!(status, Some(0));
    assert!(text.contains("resolver-2") && !text.contains("resolver-1"), "{text}");
    assert_eq!(rendered("https://unknown.test/q", "off"), (Some(1), String::new()));
}

/// Makes a certificate for a name that vouches for itself; certificate and key.
fn certificate(folder: &TempDir, file: &str, name: &str) -> (PathBuf, PathBuf) {
    let (certificate, key) =
        (folder.path().join(format!("{file}.pem")), folder.path().join(format!("{file}.key")));
    let output = Command::new(program("openssl", "openssl"))
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
        ])
        .args(["-subj", &format!("/CN={name}"), "-addext", &format!("subjectAltName=DNS:{name}")])
        .arg("-out")
        .arg(&certificate)
        .arg("-keyout")
        .arg(&key)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    (certificate, key)
}

#[test]
fn an_upstream_over_tls_is_believed_only_with_the_right_certificate() {
    let folder = TempDir::new();
    let origin = Origin::echo(V4);
    let (right, right_key) = certificate(&folder, "right", "resolver.chain.test");
    let (other_name, other_key) = certificate(&folder, "other", "somebody.else.test");
    let doh = |chain: &DnsChain| {
        let port = chain.relay_address().port().to_string();
        Daemon::start(&["--doh-ip", "127.0.0.1", "--doh-port", &port])
    };

    let chain = DnsChain::start_with_tls(&right, &right_key, &right);
    connect_through(doh(&chain).address(), ("v4.chain.test", origin.port())).assert_echo(b"verified");

    let untrusted = DnsChain::start_with_tls(&right, &right_key, &other_name);
    assert_eq!(reply_to(doh(&untrusted).address(), ("v4.chain.test", origin.port())).code, 1);

    let misnamed = DnsChain::start_with_tls(&other_name, &other_key, &other_name);
    assert_eq!(reply_to(doh(&misnamed).address(), ("v4.chain.test", origin.port())).code, 1);
}
