//! The real daemon: started with its own ports and files, watched through its output, ended with the test.
//!
//! A daemon that panicked, or that ended although nobody asked it to, fails the test when it is dropped.

use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::machine::TempDir;
use super::process::{Lines, Process};
use super::waiting::{LIMIT, look_until};

/// A running daemon.
#[derive(Debug)]
pub(crate) struct Daemon {
    process: Process,
    listeners: Vec<SocketAddr>,
    stdout: Option<Lines>,
    asked_to_end: bool,
    folder: TempDir,
}

/// How a daemon is to be started.
#[derive(Debug)]
pub(crate) struct Builder {
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    folder: TempDir,
    hosts: String,
    resolv_conf: String,
    descriptors: Option<u64>,
    stdout: Stdout,
    /// The program and arguments that run it, and a socket for that program's standard input.
    starter: Vec<String>,
    input: Option<OwnedFd>,
}

/// Where standard output of the daemon goes.
#[derive(Debug)]
enum Stdout {
    Collected,
    /// The test holds the reading end and decides when it reads.
    Held,
    File(PathBuf),
}

/// The line that says that the daemon is ready.
const READY: &str = "listening on ";

/// The program under test.
const PROGRAM: &str = env!("CARGO_BIN_EXE_socks5d");

impl Daemon {
    /// Starts with these arguments after those that every test needs; names come from the hosts file only.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::with(arguments).start()
    }

    /// Says how to start; names come from [`Builder::hosts`] only, unless the arguments say otherwise.
    pub(crate) fn with(arguments: &[&str]) -> Builder {
        Builder {
            arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
            environment: Vec::new(),
            folder: TempDir::new(),
            hosts: "127.0.0.1 localhost\n::1 localhost\n".to_owned(),
            resolv_conf: String::new(),
            descriptors: None,
            stdout: Stdout::Collected,
            starter: Vec::new(),
            input: None,
        }
    }

    /// The first listener: 127.0.0.1 unless the arguments say otherwise.
    pub(crate) fn address(&self) -> SocketAddr {
        self.listeners[0]
    }

    /// Every listener, as said at start.
    pub(crate) fn listeners(&self) -> &[SocketAddr] {
        &self.listeners
    }

    /// The listener of ::1.
    pub(crate) fn address_v6(&self) -> SocketAddr {
        *self.listeners.iter().find(|address| address.is_ipv6()).expect("a listener on ::1")
    }

    /// The line said when it was ready.
    pub(crate) fn ready_line(&self) -> String {
        self.stderr().wait_for(READY)
    }

    /// Standard error so far.
    pub(crate) fn stderr(&self) -> &Lines {
        &self.process.stderr
    }

    /// Standard output so far: the access log.
    pub(crate) fn stdout(&self) -> &Lines {
        self.stdout.as_ref().expect("standard output is collected")
    }

    /// The reading end of standard output, after [`Builder::hold_stdout`].
    pub(crate) fn take_stdout(&mut self) -> std::process::ChildStdout {
        self.process.take_stdout()
    }

    /// Its own folder: configuration, hosts file, state.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Sends a signal; after SIGTERM and SIGINT it may end.
    pub(crate) fn signal(&mut self, signal: Signal) {
        self.asked_to_end |= signal == Signal::TERM || signal == Signal::INT;
        self.process.signal(signal);
    }

    /// From now on it may end: somebody asks it to.
    pub(crate) fn may_end(&mut self) {
        self.asked_to_end = true;
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self, limit: Duration) -> ExitStatus {
        self.process.wait(limit)
    }

    /// Processor time it has used, user and system.
    pub(crate) fn cpu_time(&self) -> Duration {
        let stat = self.proc_file("stat");
        let fields: Vec<&str> = stat.rsplit_once(')').expect("a process name").1.split_whitespace().collect();
        // After the name: state is the first, so utime (14th of all, proc(5)) is the twelfth.
        let ticks: u64 =
            fields[11].parse::<u64>().expect("utime") + fields[12].parse::<u64>().expect("stime");
        Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
    }

    /// Memory it occupied at most, in KiB.
    pub(crate) fn memory_kib_max(&self) -> u64 {
        let status = self.proc_file("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
        line.trim().trim_end_matches(" kB").parse().expect("a number of kB")
    }

    /// Descriptors it has open.
    pub(crate) fn descriptors_count(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("its descriptors").count()
    }

    /// Lets it open no further descriptor: the kernel takes the lowest free number, which is now the limit.
    /// Gives the limit from before.
    pub(crate) fn forbid_descriptors(&self) -> rustix::process::Rlimit {
        let folder = format!("/proc/{}/fd", self.pid());
        let is_free = |number: &u64| std::fs::symlink_metadata(format!("{folder}/{number}")).is_err();
        self.limit_descriptors((0..).find(is_free))
    }

    /// Changes how many descriptors it may have, while it runs.
    pub(crate) fn limit_descriptors(&self, current: Option<u64>) -> rustix::process::Rlimit {
        use rustix::process::{Resource, Rlimit, getrlimit, prlimit};
        let maximum = getrlimit(Resource::Nofile).maximum;
        prlimit(Some(self.process.pid()), Resource::Nofile, Rlimit { current, maximum })
            .expect("the limit of a child may be changed")
    }

    /// Panics unless it still runs.
    pub(crate) fn assert_alive(&mut self) {
        if let Some(status) = self.process.ended() {
            panic!("the daemon ended with {status}:\n{}", self.stderr().text());
        }
    }

    fn pid(&self) -> i32 {
        self.process.pid().as_raw_nonzero().get()
    }

    /// A file of its folder in /proc.
    pub(crate) fn proc_file(&self, name: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{name}", self.pid())).expect("the daemon runs")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let text = self.stderr().text();
        if std::thread::panicking() {
            eprintln!("---- standard error of the daemon:\n{text}\n----");
            return;
        }
        assert!(!text.contains("panicked at"), "the daemon panicked:\n{text}");
        if !self.asked_to_end {
            self.assert_alive();
        }
    }
}

impl Builder {
    /// Adds an argument.
    pub(crate) fn arg(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Sets an environment variable.
    pub(crate) fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// Adds a line to its hosts file.
    pub(crate) fn host(mut self, address: IpAddr, name: &str) -> Self {
        self.hosts.push_str(&format!("{address} {name}\n"));
        self
    }

    /// Adds a server of plain DNS to its resolv.conf.
    pub(crate) fn name_server(mut self, address: SocketAddr) -> Self {
        self.resolv_conf.push_str(&format!("nameserver [{}]:{}\n", address.ip(), address.port()));
        self
    }

    /// Limits its descriptors, soft and hard, from the start.
    pub(crate) fn descriptors(mut self, limit: u64) -> Self {
        self.descriptors = Some(limit);
        self
    }

    /// Leaves the reading end of its standard output to the test.
    pub(crate) fn hold_stdout(mut self) -> Self {
        self.stdout = Stdout::Held;
        self
    }

    /// Sends its standard output to a file.
    pub(crate) fn stdout_to(mut self, path: impl Into<PathBuf>) -> Self {
        self.stdout = Stdout::File(path.into());
        self
    }

    /// Has another program start it: its words come before those of the daemon's command line.
    pub(crate) fn started_by<W: Into<String>>(mut self, words: impl IntoIterator<Item = W>) -> Self {
        self.starter = words.into_iter().map(Into::into).collect();
        self
    }

    /// Hands a socket over as descriptor 3, as a service manager does.
    pub(crate) fn inheriting(self, socket: impl Into<OwnedFd>) -> Self {
        let script = "export LISTEN_PID=$$ LISTEN_FDS=1 && exec 3<&0 </dev/null && exec \"$@\"";
        let mut builder = self.started_by(["/bin/sh", "-c", script, "sh"]);
        builder.input = Some(socket.into());
        builder
    }

    /// Its own folder, to put files in before it starts.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file into its folder and says where.
    pub(crate) fn file(&self, name: &str, content: &str) -> String {
        self.folder.file(name, content).display().to_string()
    }

    /// Starts it and waits until it listens.
    pub(crate) fn start(mut self) -> Daemon {
        let input = self.input.take().map_or_else(Stdio::null, Stdio::from);
        let mut command = self.command();
        match &self.stdout {
            Stdout::Collected | Stdout::Held => command.stdout(Stdio::piped()),
            Stdout::File(path) => command
                .stdout(File::options().append(true).create(true).open(path).expect("a file for its output")),
        };
        let mut process = Process::start_with_input("socks5d", &mut command, input);
        let collect = matches!(self.stdout, Stdout::Collected);
        let stdout = collect.then(|| Lines::collect(process.take_stdout()));
        let lines = process.stderr.clone();
        process.wait_ready(|| lines.all().iter().any(|line| line.contains(READY)));
        let listeners = listeners_of(&lines.wait_for(READY));
        Daemon { process, listeners, stdout, asked_to_end: false, folder: self.folder }
    }

    /// Runs it to its end, for what should not become ready: bad values, help, ports in use.
    pub(crate) fn run(mut self) -> Output {
        let input = self.input.take().map_or_else(Stdio::null, Stdio::from);
        let mut command = self.command();
        command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the daemon starts");
        let ended =
            look_until(Instant::now() + LIMIT, || child.try_wait().expect("a child can be waited for"));
        if ended.is_none() {
            drop(child.kill());
        }
        let output = child.wait_with_output().expect("the daemon's output");
        assert!(ended.is_some(), "the daemon did not end:\n{}", String::from_utf8_lossy(&output.stderr));
        output
    }

    /// The command: a clean environment, free ports, own files. What the test says comes last and wins.
    fn command(&self) -> Command {
        let mut command = match (self.descriptors, self.starter.split_first()) {
            (None, None) => Command::new(PROGRAM),
            (None, Some((starter, words))) => {
                let mut command = Command::new(starter);
                command.args(words).arg(PROGRAM);
                command
            }
            (Some(limit), _) => {
                let mut shell = Command::new("/bin/sh");
                shell.args([
                    "-c",
                    "ulimit -n \"$1\" && shift && exec \"$@\"",
                    "sh",
                    &limit.to_string(),
                    PROGRAM,
                ]);
                shell
            }
        };
        let given = |long: &str, short: &str| self.arguments.iter().any(|a| a == long || a == short);
        if !given("--socks-port", "-p") {
            command.args(["--socks-port", "0"]);
        }
        if !given("--admin-port", "-P") {
            command.args(["--admin-port", "0"]);
        }
        if !given("--admin-udp-port", "--admin-udp-port") {
            command.args(["--admin-udp-port", "0"]);
        }
        if !given("--dns", "--dns") && !self.arguments.iter().any(|a| a.starts_with("--doh-")) {
            command.args(["--dns", "system"]);
        }
        let hosts = self.file("hosts", &self.hosts);
        let resolv_conf = self.file("resolv.conf", &self.resolv_conf);
        command
            .args(&self.arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.folder.path())
            .env("XDG_STATE_HOME", self.folder.path())
            .env("SOCKS5D_HOSTS", hosts)
            .env("SOCKS5D_RESOLV_CONF", resolv_conf)
            .env("SOCKS5D_SPREAD_FROM", "0") // Few sessions are to meet all workers.
            .env("RUST_BACKTRACE", "1")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(self.folder.path());
        command
    }
}

/// The addresses between `listening on ` and the next semicolon.
fn listeners_of(line: &str) -> Vec<SocketAddr> {
    let (_, rest) = line.split_once(READY).expect("the ready line");
    let list = rest.split(';').next().unwrap_or(rest);
    let addresses: Vec<SocketAddr> = list
        .split(',')
        .map(|text| {
            text.trim().parse().unwrap_or_else(|_| panic!("{text:?} is no socket address in {line:?}"))
        })
        .collect();
    assert!(addresses.iter().all(|address| address.port() != 0), "a port that was chosen: {line}");
    addresses
}
