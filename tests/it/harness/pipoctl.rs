//! The admin client of this project as people and scripts run it: the program, against a daemon of a test.

use std::ffi::OsStr;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::Daemon;
use super::admin::places;
use super::machine::TempDir;

/// How one user calls pipoctl for one daemon.
#[derive(Debug)]
pub(crate) struct Pipoctl {
    server: String,
    udp_port: String,
    user: String,
    password: String,
    home: TempDir,
}

/// What a run came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// The program, which cargo puts beside the daemon.
fn program() -> PathBuf {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_socks5d")).with_file_name("pipoctl");
    assert!(program.exists(), "{} is missing: cargo build -p pipoctl makes it", program.display());
    program
}

impl Pipoctl {
    /// For that user of the daemon, which carries its admin channel over UDP.
    pub(crate) fn new(daemon: &Daemon, user: &str, password: &str) -> Self {
        let place = places(daemon)[0];
        Self {
            server: format!("{}:{}", place.udp.ip(), place.sctp_port),
            udp_port: place.udp.port().to_string(),
            user: user.to_owned(),
            password: password.to_owned(),
            home: TempDir::new(),
        }
    }

    /// For that user of the daemon, but with datagrams to another UDP port of 127.0.0.1, from where somebody passes
    /// them on.
    pub(crate) fn by_way_of(daemon: &Daemon, udp_port: u16, user: &str, password: &str) -> Self {
        Self { udp_port: udp_port.to_string(), ..Self::new(daemon, user, password) }
    }

    /// The home folder of whoever runs it.
    pub(crate) fn home(&self) -> &TempDir {
        &self.home
    }

    /// The SCTP port of the daemon.
    pub(crate) fn sctp_port(&self) -> u16 {
        self.server.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).expect("a port")
    }

    /// Adds a user whose password is its name.
    pub(crate) fn adds(&self, name: &str) {
        let ran = self.run_with(&["user", "add", name, "--password-stdin"], &format!("{name}\n"));
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    }

    /// The UDP port that the daemon took.
    pub(crate) fn udp_port(&self) -> &str {
        &self.udp_port
    }

    /// A command with those arguments that knows the server; its input is empty.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        let mut command = self.bare(arguments);
        command
            .env("PIPO_SERVER", &self.server)
            .env("PIPO_USER", &self.user)
            .env("PIPO_PASSWORD", &self.password);
        command
    }

    /// A command with nothing but its arguments: no server, no user, no password. UDP is what the tests have.
    pub(crate) fn bare<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        let mut command = Command::new(program());
        command
            .env_clear()
            .env("HOME", self.home.path())
            .args(["--transport", "udp", "--udp-port", &self.udp_port])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs it to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        ended(self.command(arguments).spawn().expect("pipoctl starts"))
    }

    /// Runs it to its end with that input.
    pub(crate) fn run_with(&self, arguments: &[&str], input: &str) -> Ran {
        let mut child = self.command(arguments).stdin(Stdio::piped()).spawn().expect("pipoctl starts");
        // A client that ends before it has read everything is no failure here; its code tells.
        let _ = child.stdin.take().expect("piped").write_all(input.as_bytes());
        ended(child)
    }

    /// Runs a command that has to succeed, and gives what it says.
    pub(crate) fn said(&self, arguments: &[&str]) -> String {
        let ran = self.run(arguments);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{arguments:?}: {}", ran.stdout);
        ran.stdout
    }

    /// The JSON of a command that has to succeed.
    pub(crate) fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let arguments: Vec<_> = arguments.iter().copied().chain(["--json"]).collect();
        let text = self.said(&arguments);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {text}"))
    }

    /// Runs a command that has to end with that code, and gives its line on standard error.
    pub(crate) fn fails(&self, code: i32, arguments: &[&str]) -> String {
        let ran = self.run(arguments);
        assert_eq!(ran.code, code, "{arguments:?}: {ran:?}");
        assert_eq!(ran.stderr.lines().count(), 1, "{ran:?}");
        ran.stderr
    }
}

/// Waits for the end of a client, which has time limits of its own.
pub(crate) fn ended(child: Child) -> Ran {
    let output = child.wait_with_output().expect("pipoctl ends");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    let code = output.status.code().unwrap_or(-1);
    Ran { code, stdout: text(output.stdout), stderr: text(output.stderr) }
}
