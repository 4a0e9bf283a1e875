//! Untidiness is a failing test: what review should not have to say.

use std::path::{Path, PathBuf};

/// Longest file of Rust, lines. Usual files have 100 to 400; past 600 there is a second noun.
const FILE_LINES_MAX: usize = 700;

/// Files that may be longer, each with its reason.
const LONG_FILES: &[(&str, &str)] = &[
    ("src/settings/table.rs", "the one table of settings: it grows with each of them"),
    ("encap/src/endpoint/tests.rs", "one scene for each thing that a peer may send, all on one stage"),
];

/// A file of the repository.
struct Source {
    /// Path from the top level.
    path: String,
    text: String,
}

#[test]
fn every_file_is_tidy() {
    let files = files(&["rs", "toml", "md", "txt", "yaml", "template", "sh", ""]);
    let mut untidy = Vec::new();
    for left_over in leftovers(top()) {
        untidy.push(format!("{left_over}: a leftover of an editor or a merge"));
    }
    for Source { path, text } in &files {
        for (index, line) in text.lines().enumerate() {
            let mut say = |what: &str| untidy.push(format!("{path}:{}: {what}", index + 1));
            if line.ends_with(' ') || line.ends_with('\t') {
                say("white space at the end of the line");
            }
            if line.contains('\r') {
                say("a carriage return");
            }
            if ["TO", "FIX", "XX"]
                .iter()
                .zip(["DO", "ME", "X"])
                .any(|(a, b)| has_word(line, &format!("{a}{b}")))
            {
                say("work left for later");
            }
        }
        if !text.is_empty() && (!text.ends_with('\n') || text.ends_with("\n\n")) {
            untidy.push(format!("{path}: has to end with one line end"));
        }
    }
    report(&untidy);
}

/// Names that tools give to what they keep or cannot apply.
fn leftovers(folder: &Path) -> Vec<String> {
    files_below(folder)
        .iter()
        .map(|path| path.display().to_string())
        .filter(|path| [".orig", ".rej", "~", ".swp", ".bak"].iter().any(|end| path.ends_with(end)))
        .collect()
}

fn has_word(line: &str, word: &str) -> bool {
    line.split(|c: char| !c.is_ascii_alphanumeric()).any(|part| part == word)
}

#[test]
fn rust_files_have_a_head_and_a_usual_length() {
    let mut untidy = Vec::new();
    for Source { path, text } in files(&["rs"]) {
        // A fuzz target begins with an attribute of the crate.
        let head = text.lines().find(|line| !line.starts_with("#!["));
        if !head.is_some_and(|line| line.starts_with("//! ")) {
            untidy.push(format!("{path}: has to begin with what it owns (//!)"));
        }
        let lines = text.lines().count();
        let allowed = LONG_FILES.iter().any(|(long, _)| *long == path);
        if lines > FILE_LINES_MAX && !allowed {
            untidy.push(format!("{path}: {lines} lines, at most {FILE_LINES_MAX}: look for the second noun"));
        }
    }
    for (path, _) in LONG_FILES {
        let lines = std::fs::read_to_string(top().join(path)).map_or(0, |text| text.lines().count());
        if lines <= FILE_LINES_MAX && top().join(path).exists() {
            untidy.push(format!("{path}: is not long any more and needs no exception"));
        }
    }
    report(&untidy);
}

#[test]
fn unsafe_code_stands_in_sys_only() {
    let keyword = ["un", "safe"].concat();
    let opening = [format!("{keyword} {{"), format!("{keyword} fn "), format!("{keyword} impl ")];
    let mut untidy = Vec::new();
    for Source { path, text } in files(&["rs"]) {
        // The client's socket options of SCTP are the one exception.
        let allowed = path.starts_with("src/sys/") || path == "client/src/link/sctp_options.rs";
        let found = text.lines().position(|line| {
            let code = line.split("//").next().unwrap_or_default();
            opening.iter().any(|opening| code.contains(opening))
        });
        if let (Some(index), false) = (found, allowed) {
            untidy.push(format!("{path}:{}: belongs into src/sys", index + 1));
        }
    }
    for crate_root in ["protocol/src/lib.rs", "encap/src/lib.rs"] {
        if !read(crate_root).contains(&format!("#![forbid({keyword}_code)]")) {
            untidy.push(format!("{crate_root}: has to forbid it"));
        }
    }
    report(&untidy);
}

#[test]
fn each_dependency_has_its_reason() {
    let mut untidy = Vec::new();
    for Source { path, text } in files(&["toml"]) {
        if !path.ends_with("Cargo.toml") {
            continue;
        }
        let mut in_dependencies = false;
        let mut before = "";
        for (index, line) in text.lines().enumerate() {
            if line.starts_with('[') {
                in_dependencies = line.trim_matches(['[', ']']).ends_with("dependencies");
            } else if in_dependencies && line.starts_with(|c: char| c.is_ascii_alphabetic()) {
                // Several may share a reason, as long as they stand together under it.
                let reasoned = before.starts_with('#') || is_dependency(before);
                if !reasoned {
                    untidy.push(format!("{path}:{}: a dependency without a reason above it", index + 1));
                }
            }
            before = line;
        }
    }
    report(&untidy);
}

fn is_dependency(line: &str) -> bool {
    line.starts_with(|c: char| c.is_ascii_alphabetic()) && line.contains('=')
}

#[test]
fn each_bound_has_its_reason() {
    let mut untidy = Vec::new();
    let text = read("src/limits.rs");
    let lines: Vec<&str> = text.lines().collect();
    for (index, line) in lines.iter().enumerate() {
        if line.starts_with("pub const")
            && !index.checked_sub(1).is_some_and(|at| lines[at].starts_with("///"))
        {
            untidy.push(format!("src/limits.rs:{}: a bound without its reason", index + 1));
        }
    }
    report(&untidy);
}

#[test]
fn tests_listen_on_no_fixed_port() {
    let call = ["bi", "nd("].concat();
    let mut untidy = Vec::new();
    for Source { path, text } in files(&["rs"]) {
        if !path.starts_with("tests/") {
            continue;
        }
        for (index, line) in text.lines().enumerate() {
            let Some((_, rest)) = line.split_once(&call) else { continue };
            let argument = rest.split(')').next().unwrap_or_default();
            // A port is the number after the last comma or colon.
            let port = argument.rsplit([',', ':']).next().unwrap_or_default().trim().trim_matches('"');
            if port.parse::<u16>().is_ok_and(|port| port != 0) {
                untidy.push(format!("{path}:{}: port {port} may be somebody else's", index + 1));
            }
        }
    }
    report(&untidy);
}

#[test]
fn scripts_can_be_run_and_stop_at_mistakes() {
    use std::os::unix::fs::PermissionsExt as _;
    let mut untidy = Vec::new();
    for Source { path, text } in files(&[""]) {
        let executable = std::fs::metadata(top().join(&path)).unwrap().permissions().mode() & 0o111 != 0;
        let is_script = text.starts_with("#!");
        if executable != is_script {
            untidy.push(format!("{path}: executable and #! go together"));
        }
        if is_script && !text.contains("set -eu") && !text.contains("exec ") {
            untidy.push(format!("{path}: has to stop at mistakes (set -eu)"));
        }
    }
    report(&untidy);
}

fn report(untidy: &[String]) {
    assert!(untidy.is_empty(), "{}", untidy.join("\n"));
}

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(top().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every text file of the repository with one of these extensions, in the order of their paths.
fn files(extensions: &[&str]) -> Vec<Source> {
    let wanted = |path: &PathBuf| {
        let extension = path.extension().and_then(|extension| extension.to_str());
        extensions.contains(&extension.unwrap_or_default())
    };
    let paths = files_below(top()).into_iter().filter(wanted);
    let found: Vec<Source> = paths
        .filter_map(|path| {
            let text = std::fs::read_to_string(&path).ok()?;
            Some(Source { path: path.strip_prefix(top()).ok()?.display().to_string(), text })
        })
        .collect();
    assert!(!found.is_empty(), "no file with one of {extensions:?}");
    found
}

/// Every file below a folder, sorted; without build results, folders of tools, and what fuzzing found.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let skipped = (name.starts_with('.') && name != ".ci")
                || ["target", "corpus", "artifacts", "proptest-regressions"].contains(&name)
                || path.is_symlink();
            match (skipped, path.is_dir()) {
                (true, _) => {}
                (false, true) => folders.push(path),
                (false, false) => found.push(path),
            }
        }
    }
    found.sort();
    found
}
