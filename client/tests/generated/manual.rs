//! pipoctl(1), in mdoc.

use pipoctl::exit::EXITS;
use pipoctl::grammar::{Flag, GLOBALS, Kind, MENU, Row, Source, TABLE, Version1};

/// Text as mdoc takes it: nothing of it is a macro or an escape, and each sentence begins a line.
fn text(text: &str) -> String {
    let escaped = text.replace('\\', "\\e").replace("...", "\\&...");
    if escaped.starts_with(['.', '\'']) { format!("\\&{escaped}") } else { escaped }
}

/// A phrase that ends a sentence.
fn sentence(phrase: &str) -> String {
    let mut chars = phrase.chars();
    let first: String = chars.next().into_iter().flat_map(char::to_uppercase).collect();
    let end = if phrase.ends_with('.') { "" } else { "." };
    broken(&format!("{first}{}{end}", chars.as_str()))
}

/// Lines of at most 78 columns; mdoc wants a line for each sentence.
fn broken(long: &str) -> String {
    let mut lines = String::new();
    let mut column = 0;
    for word in text(long).split(' ') {
        let at_start = column == 0;
        if !at_start && (column + 1 + word.len() > 78 || lines.ends_with(". ") || lines.ends_with("; ")) {
            lines.push('\n');
            column = 0;
        } else if !at_start {
            lines.push(' ');
            column += 1;
        }
        // A line must not begin with a control character.
        if column == 0 && word.starts_with(['.', '\'']) {
            lines.push_str("\\&");
        }
        lines.push_str(word);
        column += word.len();
    }
    lines.push('\n');
    lines
}

fn words_of(kind: Kind) -> Option<String> {
    let telling = matches!(kind.source(), Source::Words(_)) || matches!(kind, Kind::Span | Kind::Bytes);
    telling.then(|| kind.allowed())
}

fn option(flag: &Flag, variable: Option<&str>) -> String {
    let short = flag.short.map(|short| format!("{short} , ")).unwrap_or_default();
    let value = flag.value.map(|(name, _)| format!(" Ar {}", quoted(name))).unwrap_or_default();
    let short = if short.is_empty() { String::new() } else { format!("Fl {short}") };
    let mut out = format!(".It {short}Fl -{}{value}\n{}", flag.long, sentence(flag.help));
    if let Some(allowed) = flag.value.and_then(|(_, kind)| words_of(kind)) {
        out.push_str(&sentence(&format!("Allowed: {allowed}")));
    }
    if let Some(variable) = variable {
        out.push_str(&format!("The same as\n.Ev {variable} .\n"));
    }
    out
}

/// An argument of a macro: brackets and bars have no meaning there when they are quoted.
fn quoted(name: &str) -> String {
    if name.contains(['[', ']', '|']) { format!("\"{name}\"") } else { name.to_owned() }
}

fn command(row: &Row) -> String {
    let mut out = format!(".It Xo\n.Cm {}\n", row.words());
    for argument in row.arguments {
        out.push_str(&format!(
            ".Ar {}\n",
            quoted(&argument.placeholder()).replace("...", " ...").replace(" ...\"", "...\"")
        ));
    }
    if !row.options.is_empty() {
        out.push_str(".Op Ar option ...\n");
    }
    out.push_str(".Xc\n");
    out.push_str(&sentence(row.help));
    if let Some(role) = row.role() {
        out.push_str(&sentence(&format!("From the role {role} on")));
    }
    if let Version1::Says(what) = row.version_1 {
        out.push_str(&sentence(&format!("In version 1: {what}")));
    }
    let described = row.arguments.iter().map(|argument| {
        let mut entry = format!(".It Ar {}\n{}", quoted(argument.name), sentence(argument.help));
        if let Some(allowed) = words_of(argument.kind) {
            entry.push_str(&sentence(&format!("Allowed: {allowed}")));
        }
        entry
    });
    let described: String = described.chain(row.options.iter().map(|flag| option(flag, None))).collect();
    if !described.is_empty() {
        out.push_str(&format!(".Bl -tag -width 8n -compact\n{described}.El\n"));
    }
    out
}

/// The whole page.
pub(crate) fn page() -> String {
    let mut page = HEAD.to_owned();
    let mut group = "";
    for global in GLOBALS {
        if global.group != group {
            if !group.is_empty() {
                page.push_str(".El\n");
            }
            group = global.group;
            page.push_str(&format!(".Ss {group}\n.Bl -tag -width 8n\n"));
        }
        page.push_str(&option(&global.flag, global.variable));
    }
    page.push_str(".El\n");
    page.push_str(COMMANDS);
    for row in TABLE {
        page.push_str(&command(row));
    }
    page.push_str(".El\n");
    page.push_str(MENU_HEAD);
    for (number, row) in MENU.iter().enumerate() {
        page.push_str(&format!(
            ".It {number}\n{}:\n.Cm {}\n",
            text(row.title),
            row.words.join(" ").replace("--", "\\-\\-")
        ));
    }
    page.push_str(".El\n");
    page.push_str(ENVIRONMENT);
    for (_, code, meaning) in EXITS {
        page.push_str(&format!(".It {code}\n{}", sentence(meaning)));
    }
    page.push_str(".El\n");
    page.push_str(TAIL);
    page
}

const HEAD: &str = r#".\" Made from the table of commands by client/tests/generated: change it there.
.Dd November 21, 2026
.Dt PIPOCTL 1
.Os
.Sh NAME
.Nm pipoctl
.Nd manage a running socks5d over its admin channel
.Sh SYNOPSIS
.Nm
.Op Ar option ...
.Op Ar command
.Nm
.Op Ar option ...
.Fl c Ar command ...
.Nm
.Op Ar option ...
.Fl f Ar file
.Sh DESCRIPTION
.Nm
logs in to the admin channel of
.Xr socks5d 8
by the
.Xr pipo 7
protocol and runs commands there: one that stands on its command line, the
lines of a file or of standard input, or those that a person types at a
terminal.
.Pp
Commands are a noun and a verb, then arguments and options.
Any unique beginning of a word will do.
In lines, quotes keep words together, a backslash takes the next character out
of its meaning, and # begins a comment.
Lines are run up to the first error.
.Pp
On a terminal lists are aligned, with units.
Into a pipe or a file they are columns with tabs between them and exact
numbers, under the names that JSON uses; the name of each says its unit.
Control characters in what strangers chose, such as destinations and log
lines, are shown as \exNN and never reach the terminal.
In names of users any octet may be written as \exNN, and the backslash itself
as \ex5c.
.Pp
A password never stands on the command line: it comes from a file, from the
environment or from the terminal, and in version 2 of the protocol it never
leaves the client.
.Sh OPTIONS
An option of the command goes before one of the same name here.
"#;

const COMMANDS: &str = ".Sh COMMANDS\n.Bl -tag -width 8n\n";

const MENU_HEAD: &str = "The numbers of the original menu are commands, too; arguments stand behind them.\n\
                         .Bl -tag -width 4n -compact\n";

const ENVIRONMENT: &str = r#".Sh ENVIRONMENT
.Bl -tag -width 8n
.It Ev PIPO_SERVER , PIPO_USER
See
.Fl -server
and
.Fl -user .
.It Ev PIPO_PASSWORD
The password, unless
.Fl -password-file
is given.
.It Ev NO_COLOR
When it is not empty, nothing stands out by colour or weight.
.It Ev XDG_CONFIG_HOME
Where the configuration file is, instead of
.Pa ~/.config .
.El
.Sh FILES
.Bl -tag -width 8n
.It Pa ~/.config/pipoctl/config.toml
Servers by name, and the one that is meant when none is named:
.Bd -literal
default = "home"
[servers.home]
server = "192.0.2.1:8080"
udp-port = 9899
transport = "auto"
protocol = 2
user = "admin"
password-file = "~/.config/pipoctl/home.password"
.Ed
.El
.Sh EXIT STATUS
.Bl -tag -width 4n -compact
"#;

const TAIL: &str = r#".Sh EXAMPLES
Sessions of one user, for a program:
.Dl pipoctl session list --user ada --json
.Pp
A user whose password comes from another program:
.Dl pwgen 20 1 | pipoctl user add ada --password-stdin
.Pp
Two settings at once, taken back by themselves unless confirmed within 30
seconds:
.Dl pipoctl config commit buffer-size=64k idle-timeout=2m confirmed 30
.Dl pipoctl config confirm
.Sh SEE ALSO
.Xr pipo 7 ,
.Xr socks5d 8
"#;
