//! The manuals and completions that are shipped: socks5d(8) and the completions of socks5d are made here from the
//! settings table and have to be up to date; everything in man/ and completions/ has to be without fault.
//!
//! `UPDATE_EXPECT=1 cargo test --test it manuals` writes what is made anew.

mod page;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap_complete::Shell;
use expect_test::expect_file;
use socks5d::settings::rows;

use crate::harness::machine::program;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Every file of a folder, in order.
fn files(name: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder(name)).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{name} is empty");
    files
}

fn name_of(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap()
}

/// Runs a command to its end and gives what it says on both outputs; panics unless it succeeds.
fn said_by(command: &mut Command) -> (String, String) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let [out, err] =
        [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    assert!(output.status.success(), "{command:?}: {out}{err}");
    (out, err)
}

// ---- made from the table -------------------------------------------------------------------------------

#[test]
fn the_manual_of_the_daemon_is_made_from_the_table() {
    expect_file!["../../man/socks5d.8"].assert_eq(&page::socks5d());
}

#[test]
fn completions_of_the_daemon_are_made_from_the_table() {
    for (shell, file) in [
        (Shell::Bash, expect_file!["../../completions/socks5d.bash"]),
        (Shell::Zsh, expect_file!["../../completions/_socks5d"]),
        (Shell::Fish, expect_file!["../../completions/socks5d.fish"]),
    ] {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut completed(), "socks5d", &mut text);
        file.assert_eq(&tidied(&String::from_utf8(text).unwrap()));
    }
}

/// The command line with what shells can offer for its values.
fn completed() -> clap::Command {
    use clap::ValueHint;
    use clap::builder::PossibleValuesParser;
    rows().fold(socks5d::cli::command(), |command, row| {
        command.mut_arg(row.name, |arg| {
            let words = row.words();
            match row.placeholder() {
                _ if !words.is_empty() => arg.value_parser(PossibleValuesParser::new(words)),
                "FILE" | "TARGET" => arg.value_hint(ValueHint::FilePath),
                "FOLDER" => arg.value_hint(ValueHint::DirPath),
                _ => arg,
            }
        })
    })
}

/// Without white space at the ends of lines.
fn tidied(text: &str) -> String {
    text.trim_end().lines().fold(String::new(), |all, line| all + line.trim_end() + "\n")
}

// ---- everything that is shipped ------------------------------------------------------------------------

#[test]
fn every_manual_is_without_fault() {
    for path in files("man") {
        let name = name_of(&path);
        let (title, section) = name.rsplit_once('.').expect("a section");
        let text = std::fs::read_to_string(&path).unwrap();
        let heading = format!("{} {section}", title.to_uppercase());
        assert!(
            text.to_uppercase().lines().any(|line| line.contains(&heading)),
            "{name} is not of {heading}"
        );
        let lint =
            Command::new(program("mandoc", "mandoc")).args(["-T", "lint"]).arg(&path).output().unwrap();
        let lint =
            [lint.stdout, lint.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        // Ours are not installed, and what else is depends on the machine.
        let is_about_others =
            |line: &&str| line.contains("referenced manual not found") || line.contains("outdated mandoc.db");
        let faults: Vec<_> = lint.lines().filter(|line| !is_about_others(line)).collect();
        assert!(faults.is_empty(), "{}", faults.join("\n"));
        let mut man = Command::new(program("man", "man-db"));
        man.args(["--warnings", "-l"]).arg(&path).env("LC_ALL", "C.UTF-8").env("MANWIDTH", "80");
        let (shown, warnings) = said_by(&mut man);
        assert_eq!(warnings, "", "{name}");
        assert!(shown.contains("NAME") && shown.to_lowercase().contains(title), "{name}: {shown}");
    }
}

#[test]
fn every_completion_is_read_by_its_shell() {
    for path in files("completions") {
        let name = name_of(&path).to_owned();
        let (shell, package, check) = match name.as_str() {
            name if name.ends_with(".bash") => ("bash", "bash", "-n"),
            name if name.ends_with(".fish") => ("fish", "fish", "--no-execute"),
            name if name.starts_with('_') => ("zsh", "zsh", "-n"),
            other => panic!("{other}: for which shell?"),
        };
        let (_, error) = said_by(Command::new(program(shell, package)).arg(check).arg(&path));
        assert_eq!(error, "", "{name}");
    }
}

#[test]
fn bash_and_fish_offer_options_and_words() {
    let bash = |words: &[&str]| {
        let script = format!(
            "source {}; COMP_WORDS=({}); COMP_CWORD={}; _socks5d socks5d \"${{COMP_WORDS[COMP_CWORD]}}\" \
             \"${{COMP_WORDS[COMP_CWORD-1]}}\"; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            folder("completions/socks5d.bash").display(),
            words.join(" "),
            words.len() - 1
        );
        said_by(Command::new(program("bash", "bash")).args(["--norc", "-c", &script])).0
    };
    assert_eq!(bash(&["socks5d", "--metr"]), "--metrics-listen\n--metrics-users\n");
    assert_eq!(bash(&["socks5d", "--auth", "o"]), "optional\n");
    let fish = |line: &str| {
        let script = format!("source {}; complete -C '{line}'", folder("completions/socks5d.fish").display());
        said_by(Command::new(program("fish", "fish")).args(["--no-config", "-c", &script])).0
    };
    let offered = fish("socks5d --metr");
    assert!(offered.contains("--metrics-listen") && offered.contains("--metrics-users"), "{offered}");
    assert!(fish("socks5d --log-format ").contains("json"));
}
