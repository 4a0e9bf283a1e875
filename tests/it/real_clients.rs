//! Programs that people use: curl, OpenBSD nc, ssh with ProxyCommand.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use sha2::{Digest, Sha256};

use crate::harness::dns_chain::DnsChain;
use crate::harness::machine::{free_port, program};
use crate::harness::nginx::{Nginx, OriginFile, PAGE};
use crate::harness::origin::{Origin, V4, V6};
use crate::harness::process::Process;
use crate::harness::{Daemon, TempDir, pattern};

fn curl(arguments: &[&str]) -> Output {
    Command::new(program("curl", "curl"))
        .args(["--silent", "--show-error", "--fail", "--max-time", "30", "--noproxy", ""])
        .args(arguments)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn curl_fetches_by_address_and_by_name() {
    let nginx = Nginx::start();
    let hash = OriginFile::Small.hash();
    let chain = DnsChain::start();
    let relay_port = chain.relay_address().port().to_string();
    let daemon = Daemon::start(&["--doh-ip", "127.0.0.1", "--doh-port", &relay_port]);
    let port = nginx.port();
    let file = OriginFile::Small.path();
    let (proxy, proxy_v6) = (daemon.address().to_string(), daemon.address_v6().to_string());
    let cases = [
        ("--socks5", &proxy, format!("http://127.0.0.1:{port}/{file}")),
        ("--socks5", &proxy_v6, format!("http://[::1]:{port}/{file}")),
        ("--socks5-hostname", &proxy, format!("http://v4.chain.test:{port}/{file}")),
        ("--socks5-hostname", &proxy, format!("http://both.chain.test:{port}/{file}")),
        ("--socks5-hostname", &proxy_v6, format!("http://v6.chain.test:{port}/{file}")),
        ("--socks5-hostname", &proxy, format!("http://127.0.0.1:{port}/{file}")),
        ("--socks5-hostname", &proxy, format!("http://[::1]:{port}/{file}")),
    ];
    for (option, proxy, url) in cases {
        let output = curl(&[option, proxy, &url]);
        assert!(output.status.success(), "{option} {url}: {}", text(&output.stderr));
        assert_eq!(<[u8; 32]>::from(Sha256::digest(&output.stdout)), hash, "{option} {url}");
    }
    let through_scheme =
        curl(&["--proxy", &format!("socks5h://{proxy}"), &format!("http://v4.chain.test:{port}/")]);
    assert_eq!(text(&through_scheme.stdout), PAGE);
}

#[test]
fn curl_is_told_the_truth_about_failures() {
    let nginx = Nginx::start();
    let chain = DnsChain::start();
    let relay_port = chain.relay_address().port().to_string();
    let daemon = Daemon::start(&["--doh-ip", "127.0.0.1", "--doh-port", &relay_port]);
    let proxy = daemon.address().to_string();
    let url = format!("http://missing.chain.test:{}/", nginx.port());
    let output = curl(&["--socks5-hostname", &proxy, &url]);
    // 97: the proxy handshake failed; curl's text names the reply.
    assert_eq!(output.status.code(), Some(97), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("(4)"), "{}", text(&output.stderr));
}

#[test]
fn curl_logs_in_with_a_password() {
    let nginx = Nginx::start();
    let daemon = Daemon::start(&["--user", "alice:s3cret+", "--socks-addr", "127.0.0.1"]);
    let proxy = daemon.address().to_string();
    let url = format!("http://127.0.0.1:{}/", nginx.port());
    let right = curl(&["--socks5", &proxy, "--proxy-user", "alice:s3cret+", &url]);
    assert_eq!(text(&right.stdout), PAGE, "{}", text(&right.stderr));
    for arguments in
        [&["--socks5", &proxy, "--proxy-user", "alice:wrong", &url][..], &["--socks5", &proxy, &url]]
    {
        let refused = curl(arguments);
        assert_eq!(refused.status.code(), Some(97), "{arguments:?}: {}", text(&refused.stderr));
        assert!(refused.stdout.is_empty());
    }
}

#[test]
fn curl_uploads_and_gets_its_bytes_back() {
    // An HTTP origin that answers with the hash of the body, whose length the head tells.
    let origin = Origin::serve(V4, |mut stream| drop(answer_with_hash(&mut stream)));
    let daemon = Daemon::start(&[]);
    let folder = TempDir::new();
    let body = pattern(21, 8 << 20);
    let path = folder.file("body", &body);
    let output = curl(&[
        "--socks5",
        &daemon.address().to_string(),
        "--header",
        "Expect:",
        "--data-binary",
        &format!("@{}", path.display()),
        &format!("http://{}/", origin.address()),
    ]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(<[u8; 32]>::from(Sha256::digest(&body)).as_slice(), output.stdout);
}

fn answer_with_hash(stream: &mut TcpStream) -> std::io::Result<()> {
    use std::io::{BufRead as _, Read as _};
    let mut reader = std::io::BufReader::new(stream.try_clone()?);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 32\r\nConnection: close\r\n\r\n")?;
    stream.write_all(&Sha256::digest(&body))
}

#[test]
fn nc_passes_bytes_both_ways_and_closes() {
    let origin = Origin::answers_after_the_end(V4);
    let origin6 = Origin::answers_after_the_end(V6);
    let daemon = Daemon::start(&[]);
    let sent = pattern(22, 1 << 20);
    for (host, port) in [("127.0.0.1", origin.port()), ("::1", origin6.port()), ("localhost", origin.port())]
    {
        let mut child = Command::new(program("nc", "netcat-openbsd"))
            .args(["-N", "-w", "20", "-X", "5", "-x", &daemon.address().to_string(), host, &port.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let bytes = sent.clone();
        let writing = std::thread::spawn(move || stdin.write_all(&bytes));
        let output = child.wait_with_output().unwrap();
        writing.join().unwrap().unwrap();
        assert!(output.status.success(), "{host}: {}", text(&output.stderr));
        let mut got = output.stdout;
        got.reverse();
        crate::harness::bytes::assert_same(&got, &sent, host);
    }
}

/// A throwaway sshd on loopback with keys of its own.
struct Sshd {
    address: SocketAddr,
    key: PathBuf,
    known_hosts: PathBuf,
    _process: Process,
    _folder: TempDir,
}

impl Sshd {
    fn start() -> Self {
        let folder = TempDir::new();
        let (host_key, key) = (make_key(folder.path(), "host"), make_key(folder.path(), "client"));
        let address = SocketAddr::new(V4, free_port());
        let public = |key: &Path| std::fs::read_to_string(key.with_extension("pub")).unwrap();
        let authorized = folder.file("authorized_keys", public(&key));
        let known_hosts =
            folder.file("known_hosts", format!("[127.0.0.1]:{} {}", address.port(), public(&host_key)));
        let configuration = format!(
            "ListenAddress 127.0.0.1:{port}\nHostKey {host_key}\nAuthorizedKeysFile {authorized}\nPidFile none\n\
             StrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n",
            port = address.port(),
            host_key = host_key.display(),
            authorized = authorized.display(),
        );
        let path = folder.file("sshd_config", configuration);
        if rustix::process::getuid().is_root() {
            // Where no sshd service ever ran, its folder for privilege separation is missing.
            std::fs::create_dir_all("/run/sshd").expect("a folder for sshd");
        }
        let mut command = Command::new(program("sshd", "openssh-server"));
        let mut process =
            Process::start("sshd", command.args(["-D", "-e", "-f"]).arg(path).stdout(Stdio::null()));
        process.wait_ready(|| TcpStream::connect(address).is_ok());
        Self { address, key, known_hosts, _process: process, _folder: folder }
    }

    /// An ssh to it through the proxy.
    fn ssh(&self, proxy: SocketAddr, command: &str) -> Command {
        let user = Command::new("id").arg("-un").output().unwrap();
        let nc = program("nc", "netcat-openbsd");
        let mut ssh = Command::new(program("ssh", "openssh-client"));
        ssh.arg("-o")
            .arg(format!("ProxyCommand={} -X 5 -x {proxy} %h %p", nc.display()))
            .arg("-o")
            .arg(format!("UserKnownHostsFile={}", self.known_hosts.display()))
            .args(["-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", "ConnectTimeout=15"])
            .args([
                "-F",
                "none",
                "-p",
                &self.address.port().to_string(),
                "-l",
                text(&user.stdout).trim(),
                "-i",
            ])
            .arg(&self.key)
            .args(["127.0.0.1", command]);
        ssh
    }
}

fn make_key(folder: &Path, name: &str) -> PathBuf {
    let path = folder.join(name);
    let output = Command::new(program("ssh-keygen", "openssh-client"))
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(&path)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    path
}

#[test]
fn ssh_opens_a_session_and_moves_megabytes() {
    let sshd = Sshd::start();
    let daemon = Daemon::start(&[]);
    let output = sshd.ssh(daemon.address(), "echo opened && id -un").stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).starts_with("opened\n"), "{}", text(&output.stdout));

    let sent = pattern(23, 8 << 20);
    let mut child = sshd
        .ssh(daemon.address(), "cat")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let bytes = sent.clone();
    let writing = std::thread::spawn(move || stdin.write_all(&bytes));
    let output = child.wait_with_output().unwrap();
    writing.join().unwrap().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    crate::harness::bytes::assert_same(&output.stdout, &sent, "what cat sent back over ssh");
}
