//! How each server is started, and ended by its number. As root each runs under a user number of its own, without
//! privileges: pipe limits count per user, and one server's pipes must not shorten another's.

use crate::admin::client::Place;
use crate::dns;
use crate::load::idle::pause;
use crate::measure::Subject;
use crate::socks::Credentials;
use crate::target::{Endpoints, Proxy, Target};
use rustix::process::{Pid, Signal, getuid, kill_process};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A server has this long to listen, and to end when it is asked.
const START_MAX: Duration = Duration::from_secs(5);
const END_MAX: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(5);

/// User numbers of the servers begin here; 65534 is `nobody`, which the first one is.
const USER_FIRST: u32 = 65_534;

/// Everything that can be measured, in the order of the table's columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Direct,
    Copy64,
    Copy256,
    Splice,
    Daemon,
    FastSocks5,
    Merino,
    Dante,
    Microsocks,
}

/// What a server is in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Reference,
    Daemon,
    Peer,
}

impl Kind {
    pub(crate) const ALL: [Self; 9] = [
        Self::Direct,
        Self::Copy64,
        Self::Copy256,
        Self::Splice,
        Self::Daemon,
        Self::FastSocks5,
        Self::Merino,
        Self::Dante,
        Self::Microsocks,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Copy64 => "copy-64",
            Self::Copy256 => "copy-256",
            Self::Splice => "splice-256",
            Self::Daemon => "socks5d",
            Self::FastSocks5 => "fast-socks5",
            Self::Merino => "merino",
            Self::Dante => "dante",
            Self::Microsocks => "microsocks",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    pub(crate) fn role(self) -> Role {
        match self {
            Self::Direct | Self::Copy64 | Self::Copy256 | Self::Splice => Role::Reference,
            Self::Daemon => Role::Daemon,
            Self::FastSocks5 | Self::Merino | Self::Dante | Self::Microsocks => Role::Peer,
        }
    }

    /// Whether it can be started asking for a password without touching the machine's users.
    pub(crate) fn takes_password(self) -> bool {
        matches!(self, Self::Daemon | Self::FastSocks5 | Self::Microsocks)
    }

    /// Idle sessions that one machine bears: dante takes a third of a MiB for each, others a thread.
    pub(crate) fn idle_sessions_max(self) -> usize {
        match self {
            Self::Dante => 300,
            Self::Merino | Self::Microsocks => 1_000,
            Self::Direct | Self::Copy64 | Self::Copy256 | Self::Splice | Self::Daemon | Self::FastSocks5 => {
                usize::MAX
            }
        }
    }

    fn forks(self) -> bool {
        self == Self::Dante
    }
}

/// How a server lets people in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    Open,
    Password,
}

/// A started server.
pub(crate) struct Server {
    pub(crate) target: Target,
    /// `None`: the direct connection, where there is no server.
    pub(crate) process: Option<Process>,
    /// Where its admin channel is, if it is a daemon that carries one over UDP.
    pub(crate) admin: Option<Place>,
}

impl Server {
    pub(crate) fn subject(&self) -> Option<Subject> {
        self.process.as_ref().map(Process::subject)
    }
}

/// A child process that ends with this value, and with the tool.
pub(crate) struct Process {
    child: Child,
    forks: bool,
}

impl Process {
    pub(crate) fn subject(&self) -> Subject {
        Subject { pid: self.child.id(), forks: self.forks }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // It may have ended by itself.
            let _ = kill_process(pid, Signal::TERM);
        }
        let until = Instant::now() + END_MAX;
        while Instant::now() < until {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            pause(LOOK);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where things are that servers are made of.
#[derive(Clone, Debug, Default)]
pub(crate) struct Places {
    /// The daemon under test.
    pub(crate) daemon: Option<PathBuf>,
    /// Arguments of the daemon besides those of the comparison.
    pub(crate) daemon_arguments: Vec<String>,
    /// The content of the daemon's users file, if it has one.
    pub(crate) daemon_users: Option<String>,
    /// Holds `fast-socks5/bin/server` and `merino/bin/merino`.
    pub(crate) peers: Option<PathBuf>,
}

/// Starts servers before one origin.
pub(crate) struct Catalogue {
    // First, so that they end before their directory goes.
    _processes: Vec<Process>,
    places: Places,
    directory: Directory,
    /// This program, where every user can start it.
    own: PathBuf,
    origin: Endpoints,
    started: std::cell::Cell<u32>,
    doh: SocketAddr,
}

impl Catalogue {
    /// Starts the origin and the DoH relay. The origin is two processes, one for bulk and one for echoes: a
    /// ping-pong beside bulk must not queue behind it there.
    pub(crate) fn new(places: Places) -> io::Result<Self> {
        let directory = Directory::new()?;
        let own = directory.0.join("compare");
        fs::copy(std::env::current_exe()?, &own)?;
        let (bulk_process, line) = start_own(&own, &["origin"], None)?;
        let bulk = endpoints(&line)?;
        let (echo_process, line) = start_own(&own, &["origin"], None)?;
        let origin = Endpoints { echo: endpoints(&line)?.echo, ..bulk };
        let (doh_process, line) = start_own(&own, &["doh"], None)?;
        let doh = line.trim().parse().map_err(io::Error::other)?;
        let started = std::cell::Cell::new(0);
        let _processes = vec![bulk_process, echo_process, doh_process];
        Ok(Self { places, directory, own, origin, started, doh, _processes })
    }

    /// `None`: it can be started.
    pub(crate) fn why_missing(&self, kind: Kind) -> Option<String> {
        match kind {
            Kind::Direct | Kind::Copy64 | Kind::Copy256 | Kind::Splice => None,
            Kind::Daemon | Kind::FastSocks5 | Kind::Merino | Kind::Dante | Kind::Microsocks => {
                match self.program(kind) {
                    Ok(program) if program.is_file() => None,
                    Ok(program) => Some(format!("{}: {} does not exist", kind.name(), program.display())),
                    Err(error) => Some(format!("{}: {error}", kind.name())),
                }
            }
        }
    }

    /// Starts a server. Bare relays relay to the catalogue's origin; the others are told where to connect.
    pub(crate) fn start(&self, kind: Kind, door: Door) -> io::Result<Server> {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", kind.name()));
        let relay = |mode: &str, kib: &str| -> io::Result<Server> {
            let line = self.origin.to_line();
            let arguments = ["relay", "--mode", mode, "--buffer-kib", kib, &line];
            let (process, line) = start_own(&self.own, &arguments, self.next_user())?;
            Ok(Server {
                target: Target { endpoints: endpoints(&line)?, proxy: None },
                process: Some(process),
                admin: None,
            })
        };
        match kind {
            Kind::Direct => {
                let target = Target { endpoints: self.origin.clone(), proxy: None };
                Ok(Server { target, process: None, admin: None })
            }
            Kind::Copy64 => relay("copy", "64").map_err(named),
            Kind::Copy256 => relay("copy", "256").map_err(named),
            Kind::Splice => relay("splice", "256").map_err(named),
            Kind::Daemon | Kind::FastSocks5 | Kind::Merino | Kind::Dante | Kind::Microsocks => {
                self.start_foreign(kind, door).map_err(named)
            }
        }
    }

    fn start_foreign(&self, kind: Kind, door: Door) -> io::Result<Server> {
        let credentials = (door == Door::Password).then(bench_credentials);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        let user = self.next_user();
        let home = self.directory.home(kind, self.started.get(), user)?;
        // The build's folder may be closed to the user that the server runs as.
        let program = home.join(kind.name());
        fs::copy(self.program(kind)?, &program)?;
        let mut arguments = self.arguments(kind, address, credentials.as_ref(), &home)?;
        if let (Kind::Daemon, Some(users)) = (kind, &self.places.daemon_users) {
            let file = home.join("users");
            fs::write(&file, users)?;
            // The daemon takes none that others could read.
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
            if user.is_some() {
                chown(&file, user, user)?;
            }
            arguments.extend(["--users-file".to_owned(), file.to_string_lossy().into_owned()]);
        }
        let complaints = home.join("stderr");
        let mut command = as_user(&program, user);
        command
            .args(arguments)
            .current_dir(&home)
            .env("HOME", &home)
            .env("XDG_STATE_HOME", &home)
            .env("XDG_CONFIG_HOME", &home)
            .env("RUST_LOG", "error")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&complaints)?);
        if kind == Kind::Daemon {
            // Its own default, whatever that is.
            command.env_remove("RUST_LOG");
        }
        let mut process = Process { child: command.spawn()?, forks: kind.forks() };
        wait_until_listening(&mut process.child, address, &complaints)?;
        let proxy = Proxy { address, credentials, name: None };
        let admin = if kind == Kind::Daemon { admin_place(&complaints)? } else { None };
        let target = Target { endpoints: self.origin.clone(), proxy: Some(proxy) };
        Ok(Server { target, process: Some(process), admin })
    }

    /// A sub-command of this tool as another process, and the line that it prints.
    pub(crate) fn start_helper(&self, arguments: &[&str]) -> io::Result<(Process, String)> {
        start_own(&self.own, arguments, self.next_user())
    }

    fn program(&self, kind: Kind) -> io::Result<PathBuf> {
        let missing = |what: &str| io::Error::new(io::ErrorKind::NotFound, what.to_owned());
        match kind {
            Kind::Daemon => self.places.daemon.clone().ok_or_else(|| missing("no --daemon was given")),
            Kind::FastSocks5 => {
                let peers = self.places.peers.as_ref().ok_or_else(|| missing("no --peers was given"))?;
                Ok(peers.join("fast-socks5/bin/server"))
            }
            Kind::Merino => {
                let peers = self.places.peers.as_ref().ok_or_else(|| missing("no --peers was given"))?;
                Ok(peers.join("merino/bin/merino"))
            }
            Kind::Dante => Ok(PathBuf::from("/usr/sbin/danted")),
            Kind::Microsocks => Ok(PathBuf::from("/usr/bin/microsocks")),
            Kind::Direct | Kind::Copy64 | Kind::Copy256 | Kind::Splice => Ok(self.own.clone()),
        }
    }

    fn arguments(
        &self,
        kind: Kind,
        address: SocketAddr,
        credentials: Option<&Credentials>,
        home: &Path,
    ) -> io::Result<Vec<String>> {
        let (ip, port) = (address.ip().to_string(), address.port().to_string());
        let mut words: Vec<String> = Vec::new();
        let mut push = |more: &[&str]| words.extend(more.iter().map(|word| (*word).to_owned()));
        match kind {
            Kind::Daemon => {
                push(&["-l", &ip, "-p", &port, "-P", &free_port()?.to_string()]);
                push(&["--admin-udp-port", "0"]);
                push(&["--doh-ip", &self.doh.ip().to_string(), "--doh-port", &self.doh.port().to_string()]);
                push(&["--access-log", &home.join("access.log").to_string_lossy()]);
                if let Some(known) = credentials {
                    push(&["-u", &format!("{}:{}", known.name, known.password)]);
                }
                words.extend(self.places.daemon_arguments.iter().cloned());
            }
            Kind::FastSocks5 => {
                push(&["--listen-addr", &address.to_string()]);
                match credentials {
                    Some(known) => {
                        push(&["password", "--username", &known.name, "--password", &known.password]);
                    }
                    None => push(&["no-auth"]),
                }
            }
            Kind::Merino => push(&["--ip", &ip, "--port", &port, "--no-auth"]),
            Kind::Dante => {
                let file = home.join("danted.conf");
                fs::write(&file, dante_configuration(address, home))?;
                push(&["-f", &file.to_string_lossy()]);
            }
            Kind::Microsocks => {
                push(&["-i", &ip, "-p", &port]);
                if let Some(known) = credentials {
                    push(&["-u", &known.name, "-P", &known.password]);
                }
            }
            Kind::Direct | Kind::Copy64 | Kind::Copy256 | Kind::Splice => {}
        }
        Ok(words)
    }

    /// A user number that no other server has; `None` where this process may not change it.
    fn next_user(&self) -> Option<u32> {
        let count = self.started.get();
        self.started.set(count + 1);
        getuid().is_root().then(|| USER_FIRST - count % 1000)
    }

    /// The name whose answer the daemon has cached, and the one that every server finds in the hosts file.
    pub(crate) fn names() -> (&'static str, &'static str) {
        (dns::NAME, "localhost")
    }
}

/// The directory that the servers' files are in; removed at the end.
struct Directory(PathBuf);

impl Directory {
    const PREFIX: &str = "socks5d-compare.";

    fn new() -> io::Result<Self> {
        Self::remove_abandoned()?;
        let path = std::env::temp_dir().join(format!("{}{}", Self::PREFIX, std::process::id()));
        fs::create_dir(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(Self(path))
    }

    /// Those of runs that were ended by a signal.
    fn remove_abandoned() -> io::Result<()> {
        for entry in fs::read_dir(std::env::temp_dir())? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let owner = name.strip_prefix(Self::PREFIX).and_then(|pid| pid.parse::<u32>().ok());
            if owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
                // Another user's is left to that user.
                let _ = fs::remove_dir_all(&path);
            }
        }
        Ok(())
    }

    fn home(&self, kind: Kind, number: u32, user: Option<u32>) -> io::Result<PathBuf> {
        let home = self.0.join(format!("{}.{number}", kind.name()));
        fs::create_dir(&home)?;
        if user.is_some() {
            chown(&home, user, user)?;
        }
        Ok(home)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // What cannot be removed stays in the directory for temporary files, where it belongs.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn bench_credentials() -> Credentials {
    Credentials { name: "bench".to_owned(), password: "interleaved".to_owned() }
}

fn dante_configuration(address: SocketAddr, home: &Path) -> String {
    format!(
        "errorlog: {home}/dante.log\n\
         internal: {ip} port = {port}\n\
         external: lo\n\
         clientmethod: none\n\
         socksmethod: none\n\
         client pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0 }}\n\
         socks pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0 }}\n\
         socks pass {{ from: 0.0.0.0/0 to: ::/0 }}\n",
        home = home.display(),
        ip = address.ip(),
        port = address.port(),
    )
}

/// `program` with the rights of `user` alone, ended by the kernel when this process ends.
fn as_user(program: &Path, user: Option<u32>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM"]);
    if let Some(user) = user {
        command.arg(format!("--reuid={user}")).arg(format!("--regid={user}")).arg("--clear-groups");
    }
    command.arg("--").arg(program);
    command
}

/// A sub-command of this tool in a process of its own, and the first line that it prints.
fn start_own(program: &Path, arguments: &[&str], user: Option<u32>) -> io::Result<(Process, String)> {
    let mut command = as_user(program, user);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().map_err(|error| {
        io::Error::new(error.kind(), format!("setpriv (Debian package util-linux): {error}"))
    })?;
    let stdout = child.stdout.take();
    let process = Process { child, forks: false };
    let mut line = String::new();
    if let Some(stdout) = stdout {
        BufReader::new(stdout).read_line(&mut line)?;
    }
    if line.is_empty() {
        return Err(io::Error::other(format!("{arguments:?} ended before it listened")));
    }
    Ok((process, line))
}

fn endpoints(line: &str) -> io::Result<Endpoints> {
    Endpoints::from_line(line).ok_or_else(|| io::Error::other(format!("no endpoints in {line:?}")))
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

fn wait_until_listening(child: &mut Child, address: SocketAddr, complaints: &Path) -> io::Result<()> {
    let until = Instant::now() + START_MAX;
    loop {
        if TcpStream::connect(address).is_ok() {
            return Ok(());
        }
        let ended = child.try_wait()?;
        if ended.is_some() || Instant::now() >= until {
            let said = fs::read_to_string(complaints).unwrap_or_default();
            let last = said.lines().last().unwrap_or("it said nothing").to_owned();
            let how = ended.map_or("does not listen".to_owned(), |status| format!("ended with {status}"));
            return Err(io::Error::other(format!("{how}: {last}")));
        }
        pause(LOOK);
    }
}

/// Where the daemon said that its admin channel is; it says so once it listens.
fn admin_place(complaints: &Path) -> io::Result<Option<Place>> {
    let until = Instant::now() + START_MAX;
    while Instant::now() < until {
        let said = fs::read_to_string(complaints)?;
        if let Some(line) = said.lines().find(|line| line.contains("; admin ")) {
            return Ok(Place::from_ready_line(line));
        }
        pause(LOOK);
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_name(kind.name()), Some(kind));
        }
        assert_eq!(Kind::from_name("squid"), None);
    }

    #[test]
    fn dante_listens_where_it_is_told() {
        let text = dante_configuration("127.0.0.1:77".parse().unwrap(), Path::new("/tmp/x"));
        assert!(text.contains("internal: 127.0.0.1 port = 77\n"), "{text}");
        assert!(text.contains("client pass { from: 0.0.0.0/0 to: 0.0.0.0/0 }\n"), "{text}");
    }
}
