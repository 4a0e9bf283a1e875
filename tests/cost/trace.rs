//! The daemon under strace(1), and what its worker and its carrier asked of the kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use rustix::process::{Pid, Signal, kill_process};

use crate::sockets::{LIMIT, until};

/// A daemon whose system calls are written to a file.
pub(crate) struct Traced {
    strace: Child,
    folder: PathBuf,
    pub(crate) address: SocketAddr,
    ended: bool,
}

/// One system call, as strace wrote it.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) thread: u32,
    pub(crate) name: String,
    /// Arguments and result.
    pub(crate) text: String,
}

impl Traced {
    /// Starts a daemon with one worker, no access log and no listener but one on 127.0.0.1.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let folder = std::env::temp_dir().join(format!("socks5d-cost-{}-{}", std::process::id(), unique()));
        fs::create_dir(&folder).expect("a folder of our own");
        let mut command = Command::new("strace");
        command.args(["--follow-forks", "--quiet=all", "--string-limit=48", "--output"]);
        command.arg(folder.join("trace")).arg(env!("CARGO_BIN_EXE_socks5d"));
        command.args(["--socks-addr=127.0.0.1", "--socks-port=0", "--workers=1", "--access-log=off"]);
        command.args(["--admin-port=0", "--admin-udp-port=0", "--state-dir"]).arg(folder.join("state"));
        command.args(arguments).env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        let mut strace = command.spawn().unwrap_or_else(|error| {
            panic!("strace does not start ({error}); it comes with: apt-get install strace")
        });
        let (sender, lines) = mpsc::channel();
        let stderr = BufReader::new(strace.stderr.take().expect("standard error is piped"));
        std::thread::spawn(move || {
            stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        let mut said = String::new();
        let address = loop {
            let line =
                lines.recv_timeout(LIMIT).unwrap_or_else(|_| panic!("the daemon is not ready:\n{said}"));
            if let Some((_, rest)) = line.split_once("listening on ") {
                let address = rest.split([';', ',', ' ']).next().unwrap_or_default();
                break address.parse().unwrap_or_else(|error| panic!("{line}: {error}"));
            }
            said.push_str(&line);
            said.push('\n');
        };
        Self { strace, folder, address, ended: false }
    }

    /// Ends the daemon and gives every call that its worker and its carrier have made, in order.
    pub(crate) fn finish(mut self) -> Vec<Call> {
        self.end();
        let trace = fs::read_to_string(self.folder.join("trace")).expect("strace has written");
        let calls: Vec<Call> = joined(&trace);
        // The worker accepts, and its carrier does nothing for long without splicing.
        let is_theirs = |call: &&Call| call.name.starts_with("accept") || call.name == "splice";
        let threads: BTreeSet<u32> = calls.iter().filter(is_theirs).map(|call| call.thread).collect();
        assert!(!threads.is_empty(), "no session");
        calls.into_iter().filter(|call| threads.contains(&call.thread) && !call.is_of_debug_build()).collect()
    }

    /// SIGTERM for the daemon, whose process begins the file; strace ends with it.
    fn end(&mut self) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let trace = fs::read_to_string(self.folder.join("trace")).unwrap_or_default();
        let daemon = trace.split(' ').next().and_then(|pid| pid.parse().ok()).and_then(Pid::from_raw);
        if let Some(daemon) = daemon {
            kill_process(daemon, Signal::TERM).expect("the daemon runs");
        }
        until("the end of the daemon", || self.strace.try_wait().expect("a child").is_some());
    }
}

impl Call {
    /// Its name; of socket options theirs too, so that a list of calls says which of them were set.
    pub(crate) fn shown(&self) -> String {
        match self.text.split(", ").nth(2).filter(|_| self.name == "setsockopt") {
            Some(option) => format!("{} {option}", self.name),
            None => self.name.clone(),
        }
    }

    /// A look at the poller that brought no event.
    pub(crate) fn is_empty_wait(&self) -> bool {
        self.name == "epoll_wait" && self.text.ends_with(" = 0")
    }

    /// The standard library built with debug assertions looks whether a descriptor is open before it closes it.
    fn is_of_debug_build(&self) -> bool {
        self.name == "fcntl" && self.text.contains("F_GETFD")
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        if !self.ended && !std::thread::panicking() {
            self.end();
        }
        let _ = self.strace.kill();
        let _ = self.strace.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn unique() -> u32 {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

/// The calls of a trace. One that another thread interrupted stands on two lines:
/// `7 recvfrom(5, <unfinished ...>` and `7 <... recvfrom resumed>"x", 1, 0, NULL, NULL) = 1`.
fn joined(trace: &str) -> Vec<Call> {
    let mut begun: BTreeMap<u32, String> = BTreeMap::new();
    let mut calls = Vec::new();
    for line in trace.lines() {
        let Some((thread, text)) = line.split_once(' ') else { continue };
        let (Ok(thread), text) = (thread.parse(), text.trim_start()) else { continue };
        if let Some(start) = text.strip_suffix(" <unfinished ...>") {
            begun.insert(thread, start.to_owned());
            continue;
        }
        let whole = match text.strip_prefix("<... ").and_then(|rest| rest.split_once(" resumed>")) {
            Some((_, end)) => begun.remove(&thread).unwrap_or_default() + end,
            None => text.to_owned(),
        };
        if let Some((name, rest)) = whole.split_once('(') {
            calls.push(Call { thread, name: name.to_owned(), text: rest.to_owned() });
        }
    }
    calls
}

#[test]
fn interrupted_calls_are_put_together() {
    let trace = "1 execve(\"x\") = 0\n2 recvfrom(5,  <unfinished ...>\n1 close(3)  = 0\n\
                 2 <... recvfrom resumed>\"hi\", 2, 0, NULL, NULL) = 2\n1 +++ exited with 0 +++\n";
    let calls = joined(trace);
    let told: Vec<_> =
        calls.iter().map(|call| format!("{} {}({}", call.thread, call.name, call.text)).collect();
    let expected = ["1 execve(\"x\") = 0", "1 close(3)  = 0", "2 recvfrom(5, \"hi\", 2, 0, NULL, NULL) = 2"];
    assert_eq!(told, expected);
}
