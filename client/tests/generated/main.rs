//! What is made from the table of commands has to be up to date: the manual pipoctl(1), the completions for shells,
//! and the commands in docs/ADMIN.md.
//!
//! `UPDATE_EXPECT=1 cargo test -p pipoctl --test generated` writes all of it anew.

mod completions;
mod manual;

use std::path::{Path, PathBuf};
use std::process::Command;

use expect_test::expect_file;
use pipoctl::exit::EXITS;
use pipoctl::grammar::{GLOBALS, MENU, TABLE, Version1};

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn the_manual_is_made_from_the_table() {
    expect_file!["../../../man/pipoctl.1"].assert_eq(&manual::page());
}

#[test]
fn completions_are_made_from_the_table() {
    expect_file!["../../../completions/pipoctl.bash"].assert_eq(&completions::bash());
    expect_file!["../../../completions/_pipoctl"].assert_eq(&completions::zsh());
    expect_file!["../../../completions/pipoctl.fish"].assert_eq(&completions::fish());
}

#[test]
fn bash_completes_with_them() {
    for (line, expected) in [
        (vec!["us"], vec!["user"]),
        (vec!["user", ""], vec!["list", "add", "remove", "password", "role"]),
        (vec!["--json", "session", "k"], vec!["kill"]),
        (vec!["session", "kill", "--dr"], vec!["--dry-run"]),
        (vec!["session", "list", "--stage", "re"], vec!["request", "resolve", "relay"]),
        (vec!["--transport", "k"], vec!["kernel"]),
        (vec!["--user", "root", "dns", "f"], vec!["flush"]),
    ] {
        let words: Vec<_> = line.iter().map(|word| format!("'{word}'")).collect();
        let script = format!(
            "source completions/pipoctl.bash; COMP_WORDS=(pipoctl {}); COMP_CWORD={}; _pipoctl; \
             printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            words.join(" "),
            words.len(),
        );
        let output = Command::new("bash").args(["-c", &script]).current_dir(top()).output().expect("bash");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let offered = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(offered.split_whitespace().collect::<Vec<_>>(), expected, "{line:?}");
    }
}

/// Marks around the part of docs/ADMIN.md that is made here.
const BEGIN: &str = "<!-- made from the table of commands: begin -->\n";
const END: &str = "<!-- made from the table of commands: end -->\n";

#[test]
fn the_commands_in_the_document_are_made_from_the_table() {
    let path = top().join("docs/ADMIN.md");
    let text = std::fs::read_to_string(&path).expect("docs/ADMIN.md");
    let (before, rest) = text.split_once(BEGIN).expect("the mark at the beginning");
    let (_, after) = rest.split_once(END).expect("the mark at the end");
    let wanted = format!("{before}{BEGIN}{}{END}{after}", document());
    expect_file!["../../../docs/ADMIN.md"].assert_eq(&wanted);
}

/// A table cell: the bar would end it.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn document() -> String {
    let mut text =
        "\n| command | from role | what it does | version 1 |\n| --- | --- | --- | --- |\n".to_owned();
    for row in TABLE {
        let role = row.role().map_or_else(|| "any".to_owned(), |role| role.to_string());
        let version_1 = match row.version_1 {
            Version1::Says(what) => what,
            Version1::Cannot => "no",
            Version1::Local => "",
        };
        let usage = cell(&row.usage());
        text.push_str(&format!("| `{usage}` | {role} | {} | {version_1} |\n", cell(row.help)));
    }
    text.push_str("\n### Arguments and options of the commands\n");
    for row in TABLE.iter().filter(|row| !row.arguments.is_empty() || !row.options.is_empty()) {
        text.push_str(&format!("\n`{}`\n\n", row.usage()));
        for argument in row.arguments {
            let (help, allowed) = (argument.help, argument.kind.allowed());
            text.push_str(&format!("- `{}`: {help} ({allowed})\n", argument.name));
        }
        for flag in row.options {
            let allowed = flag.value.map(|(_, kind)| format!(" ({})", kind.allowed())).unwrap_or_default();
            text.push_str(&format!("- `{}`: {}{allowed}\n", flag.written(), flag.help));
        }
    }
    text.push_str("\n### Options of pipoctl\n");
    let mut group = "";
    for global in GLOBALS {
        if global.group != group {
            group = global.group;
            text.push_str(&format!("\n{group}:\n\n"));
        }
        let variable = global.variable.map(|name| format!("; variable `{name}`")).unwrap_or_default();
        text.push_str(&format!("- `{}`: {}{variable}\n", global.flag.written(), global.flag.help));
    }
    text.push_str(
        "\n### The numbers of the original menu\n\n| number | menu | command |\n| --- | --- | --- |\n",
    );
    for (number, row) in MENU.iter().enumerate() {
        text.push_str(&format!("| {number} | {} | `{}` |\n", row.title, row.words.join(" ")));
    }
    text.push_str("\n### Exit codes\n\n| code | meaning |\n| --- | --- |\n");
    for (_, code, meaning) in EXITS {
        text.push_str(&format!("| {code} | {meaning} |\n"));
    }
    text.push('\n');
    text
}
