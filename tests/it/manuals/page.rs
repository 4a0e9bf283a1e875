//! socks5d(8) in mdoc(7): what people have to know, and every option from the settings table.

use std::fmt::Write as _;

use socks5d::settings::{Row, rows};

/// Longest line of the source.
const COLUMNS: usize = 78;

/// The whole page.
pub(super) fn socks5d() -> String {
    let mut page = String::from(BEFORE);
    let mut group = "";
    for row in rows() {
        if row.group != group {
            let end = if group.is_empty() { "" } else { ".El\n" };
            writeln!(page, "{end}.Ss {}\n.Bl -tag -width Ds", row.group).unwrap();
            group = row.group;
        }
        option(row, &mut page);
    }
    page + OWN + AFTER
}

fn option(row: &Row, page: &mut String) {
    let argument = match row.is_switch() {
        true => String::new(),
        false => format!(" Ar {}", row.placeholder()),
    };
    let short = row.short.map_or_else(String::new, |short| format!("Fl {short}{argument} , "));
    writeln!(page, ".It {short}Fl \\-{}{argument}", row.name.replace('-', "\\-")).unwrap();
    let mut text = format!("{}.", row.help.replace(". ", ".\n"));
    if row.is_value() && !row.is_switch() {
        write!(text, "\nAllowed: {}.", row.range()).unwrap();
        // The cores of the machine that made the page say nothing about the next.
        if let Some(default) = row.default().filter(|_| row.name != "workers") {
            write!(text, "\nDefault: {default}.").unwrap();
        }
    }
    if row.is_repeatable() {
        text.push_str("\nMay be repeated.");
    }
    if !row.live {
        text.push_str("\nTaken up at the next start only.");
    }
    for line in text.lines() {
        fill(line, page);
    }
}

/// One sentence, in lines of usual length, as text that no macro is taken from.
fn fill(sentence: &str, page: &mut String) {
    let mut line = String::new();
    for word in sentence.split(' ') {
        let word = word.replace('\\', "\\e");
        let word = if word.contains("--") { word.replace('-', "\\-") } else { word };
        if !line.is_empty() && line.len() + 1 + word.len() > COLUMNS {
            writeln!(page, "{line}").unwrap();
            line.clear();
        }
        let quote = if line.is_empty() && word.starts_with(['.', '\'']) { "\\&" } else { "" };
        let blank = if line.is_empty() { "" } else { " " };
        write!(line, "{blank}{quote}{word}").unwrap();
    }
    writeln!(page, "{line}").unwrap();
}

const BEFORE: &str = r#".\" Made from the settings table by tests/it/manuals.rs: change it there.
.Dd November 21, 2026
.Dt SOCKS5D 8
.Os
.Sh NAME
.Nm socks5d
.Nd SOCKS5 proxy that is managed while it runs
.Sh SYNOPSIS
.Nm
.Op Ar option ...
.Sh DESCRIPTION
.Nm
is a SOCKS5 proxy for those who run one for others.
It serves CONNECT over IPv4, IPv6 and names, with and without passwords, and
resolves names itself: over DNS-over-HTTP at a local relay, or by plain DNS
while no relay answers.
.Pp
It stays in the foreground.
Without users it listens on loopback only and asks for no password; with users
it listens on every interface, and everybody has to log in.
One line on standard error says where, when it is ready.
Access lines go to standard output, diagnostics to standard error.
.Pp
Administrators manage it over the
.Xr pipo 7
protocol, with
.Xr pipoctl 1
or another client.
Where nobody could log in there, the user
.Em admin
is made with a random password.
It is shown on standard error where that is a terminal, and else written to
.Pa initial-admin
in the state folder.
.Sh OPTIONS
Each option is also a variable and a key of the configuration file, see
.Sx ENVIRONMENT
and
.Sx FILES .
The command line overrides the environment, which overrides the file; users of
all sources are added together.
.Pp
.Ar TIME
is a number of seconds, or has a unit: 500ms, 10s, 5m, 1h.
.Ar SIZE
is a number of bytes, or has a unit: 64K, 64KiB, 1M, 1MiB.
Lists are separated by commas, or their option is repeated.
In
.Ar NAME:PASS
the first colon ends the name.
A switch takes a value behind an equals sign:
.Li false
turns it off.
"#;

const OWN: &str = r".It Fl v , Fl \-version
Print the version.
.It Fl h , Fl \-help
Print the options.
.El
";

const AFTER: &str = r#".Sh SIGNALS
.Bl -tag -width "SIGTERM, SIGINT"
.It Dv SIGTERM , Dv SIGINT
Accept nobody any more and let sessions end, until the drain timeout has
passed.
A second one ends at once.
.It Dv SIGHUP
Read configuration and users again, and open log files again.
If anything is wrong nothing changes, and the log says what.
.El
.Sh ENVIRONMENT
.Bl -tag -width Ds
.It Ev SOCKS5D_ Ns Ar OPTION
The option of that name in capitals, with underscores:
.Ev SOCKS5D_BUFFER_SIZE
is
.Fl \-buffer\-size .
Users stand one on a line.
An empty variable says nothing.
.It Ev STATE_DIRECTORY , Ev XDG_STATE_HOME , Ev HOME
Where the state folder is, unless
.Fl \-state\-dir
says so.
.El
.Sh FILES
.Bl -tag -width Ds
.It The file of Fl \-config
TOML; its keys are the long options without the dashes before them.
.It The file of Fl \-users\-file
Lines
.Ar NAME:PASS
or
.Ar NAME:PASS:admin ,
and comments that begin with a number sign.
Only its owner may be able to read it.
.It Pa ~/.local/state/socks5d
The state folder.
.El
.Sh EXIT STATUS
.Bl -tag -width Ds
.It 0
Stopped as asked.
.It 1
Cannot run, or cannot go on.
.It 2
Wrong use: one line on standard error says which option, variable or file.
.El
.Sh EXAMPLES
For this machine only, with metrics for Prometheus:
.Pp
.Dl $ socks5d --metrics-listen 127.0.0.1:9108
.Pp
For others, who have to log in:
.Bd -literal -offset indent
$ install -m 600 /dev/null users
$ echo 'alice:a long password' > users
$ socks5d --users-file users --deny-private
.Ed
.Sh SEE ALSO
.Xr curl 1 ,
.Xr pipoctl 1 ,
.Xr pipo 7
.Sh STANDARDS
.Bl -tag -width "RFC 1928" -compact
.It RFC 1928
SOCKS Protocol Version 5
.It RFC 1929
Username/Password Authentication for SOCKS V5
.It RFC 8305
Happy Eyeballs Version 2: Better Connectivity Using Concurrency
.It RFC 8484
DNS Queries over HTTPS (DoH)
.El
.Sh CAVEATS
BIND and UDP ASSOCIATE are answered with
.Dq command not supported .
"#;
