//! The real DoH chain on loopback: unbound with local zones, dnsdist that serves them as DNS over plain HTTP,
//! and before it nginx as the relay, from the same template that docker/ ships.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::machine::{TempDir, free_port, program};
use super::process::Process;

/// Names of the zone `chain.test`: each with its records.
pub(crate) const ZONE: &[(&str, &[&str])] = &[
    ("v4.chain.test", &["A 127.0.0.1"]),
    ("v6.chain.test", &["AAAA ::1"]),
    ("both.chain.test", &["A 127.0.0.1", "AAAA ::1"]),
    ("alias.chain.test", &["CNAME v4.chain.test."]),
    ("alias6.chain.test", &["CNAME v6.chain.test."]),
    ("text.chain.test", &["TXT nothing-to-connect-to"]),
    // Two addresses of which one swallows connects, and two of which one refuses (127.0.0.9 has no listener).
    ("half-dead.chain.test", &["A 127.0.0.7", "A 127.0.0.1"]),
    ("dead6.chain.test", &["A 127.0.0.1", "AAAA ::1"]),
    ("refusing.chain.test", &["A 127.0.0.9", "A 127.0.0.1"]),
    ("mapped.chain.test", &["AAAA ::ffff:127.0.0.1"]),
];

/// A running chain. Its parts can be stopped one by one.
#[derive(Debug)]
pub(crate) struct DnsChain {
    relay_address: SocketAddr,
    unbound_address: SocketAddr,
    upstream: Upstream,
    relay: Option<Process>,
    _dnsdist: Process,
    _unbound: Process,
    folder: TempDir,
}

/// How the relay reaches dnsdist.
#[derive(Clone, Debug)]
enum Upstream {
    Clear(SocketAddr),
    /// With TLS, trusting the certificate in this file.
    Tls(SocketAddr, PathBuf),
}

impl DnsChain {
    /// Starts all three and waits until the relay answers for the zone.
    pub(crate) fn start() -> Self {
        let folder = TempDir::new();
        let (unbound, unbound_address) = start_unbound(&folder);
        let doh = loopback(free_port());
        let listen = format!("addDOHLocal(\"{doh}\", nil, nil, \"/dns-query\", {{}})");
        let dnsdist = start_dnsdist(&folder, unbound_address, doh, &listen);
        Self::with_relay(folder, unbound, unbound_address, dnsdist, Upstream::Clear(doh))
    }

    /// The same with TLS between relay and dnsdist, and the relay trusting `trusted`.
    pub(crate) fn start_with_tls(certificate: &Path, key: &Path, trusted: &Path) -> Self {
        let folder = TempDir::new();
        let (unbound, unbound_address) = start_unbound(&folder);
        let doh = loopback(free_port());
        let (certificate, key) = (certificate.display(), key.display());
        let listen = format!("addDOHLocal(\"{doh}\", \"{certificate}\", \"{key}\", \"/dns-query\", {{}})");
        let dnsdist = start_dnsdist(&folder, unbound_address, doh, &listen);
        let upstream = Upstream::Tls(doh, trusted.to_owned());
        Self::with_relay(folder, unbound, unbound_address, dnsdist, upstream)
    }

    fn with_relay(
        folder: TempDir,
        unbound: Process,
        unbound_address: SocketAddr,
        dnsdist: Process,
        upstream: Upstream,
    ) -> Self {
        let relay_address = loopback(free_port());
        let mut chain = Self {
            relay_address,
            unbound_address,
            upstream,
            relay: None,
            _dnsdist: dnsdist,
            _unbound: unbound,
            folder,
        };
        chain.start_relay();
        chain
    }

    /// The relay, for `--doh-ip` and `--doh-port`.
    pub(crate) fn relay_address(&self) -> SocketAddr {
        self.relay_address
    }

    /// unbound, as a server of plain DNS.
    pub(crate) fn unbound_address(&self) -> SocketAddr {
        self.unbound_address
    }

    /// Stops the relay: connects to it are refused from now on.
    pub(crate) fn stop_relay(&mut self) {
        self.relay = None;
    }

    /// Starts the relay again where it was.
    pub(crate) fn start_relay(&mut self) {
        let state = self.folder.path().join("relay");
        std::fs::create_dir_all(&state).expect("a folder for the relay");
        let configuration = state.join("nginx.conf");
        let rendered = self.render(&state);
        std::fs::write(&configuration, rendered).expect("room for a configuration");
        let mut command = Command::new(program("nginx", "nginx-light"));
        command.arg("-e").arg("stderr").arg("-p").arg(&state).arg("-c").arg(configuration);
        let mut relay = Process::start("nginx as the relay", command.stdout(Stdio::null()));
        relay.wait_ready(|| TcpStream::connect(self.relay_address).is_ok());
        self.relay = Some(relay);
    }

    /// The configuration as docker/relay/render makes it.
    fn render(&self, state: &Path) -> Vec<u8> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("docker/relay/render");
        let mut command = Command::new(script);
        command.env("RELAY_LISTEN", self.relay_address.to_string()).env("RELAY_STATE", state);
        match &self.upstream {
            Upstream::Clear(at) => {
                let url = format!("http://localhost:{}/dns-query@{}", at.port(), at.ip());
                command.env("RELAY_UPSTREAMS", url)
            }
            Upstream::Tls(at, trusted) => {
                let url = format!("https://resolver.chain.test:{}/dns-query@{}", at.port(), at.ip());
                command.env("RELAY_UPSTREAMS", url).env("RELAY_UPSTREAM_CA", trusted)
            }
        };
        let output = command.output().expect("the renderer runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }
}

fn start_unbound(folder: &TempDir) -> (Process, SocketAddr) {
    let address = loopback(free_port());
    let records: String = ZONE
        .iter()
        .flat_map(|(name, records)| records.iter().map(move |record| (name, record)))
        .map(|(name, record)| format!("{name}. 300 IN {record}\n"))
        .collect();
    let soa = "chain.test. 300 IN SOA ns.chain.test. admin.chain.test. 1 3600 600 86400 60\n";
    let name_server = "chain.test. 300 IN NS ns.chain.test.\nns.chain.test. 300 IN A 127.0.0.1\n";
    let zone = folder.file("chain.test.zone", [soa, name_server, &records].concat());
    let configuration = format!(
        "server:
    directory: \"{folder}\"
    chroot: \"\"
    username: \"\"
    pidfile: \"\"
    do-daemonize: no
    use-syslog: no
    logfile: \"\"
    interface: {ip}@{port}
    access-control: 127.0.0.0/8 allow
    module-config: \"iterator\"
    num-threads: 1
    # Everything outside of the zone does not exist: no question leaves this machine.
    local-zone: \".\" static
    local-zone: \"chain.test.\" transparent
# A zone file and no local-data, because of that unbound does not follow aliases.
auth-zone:
    name: \"chain.test.\"
    zonefile: \"{zone}\"
    fallback-enabled: no
remote-control:
    control-enable: no
",
        folder = folder.path().display(),
        ip = address.ip(),
        port = address.port(),
        zone = zone.display(),
    );
    let path = folder.file("unbound.conf", configuration);
    let mut command = Command::new(program("unbound", "unbound"));
    let mut process = Process::start("unbound", command.arg("-d").arg("-c").arg(path).stdout(Stdio::null()));
    process.wait_ready(|| TcpStream::connect(address).is_ok());
    (process, address)
}

fn start_dnsdist(folder: &TempDir, server: SocketAddr, doh: SocketAddr, listen: &str) -> Process {
    let local = loopback(free_port());
    let configuration = format!(
        "setLocal(\"{local}\")
newServer({{address=\"{server}\"}}):setUp()
{listen}
"
    );
    let path = folder.file("dnsdist.conf", configuration);
    let mut command = Command::new(program("dnsdist", "dnsdist"));
    command.arg("--supervised").arg("--disable-syslog").arg("-C").arg(path);
    let mut process = Process::start("dnsdist", command.stdout(Stdio::null()));
    process.wait_ready(|| TcpStream::connect(doh).is_ok());
    process
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}
