//! Completions for bash, zsh and fish: words of the table; names that only the server knows are not asked for.

use pipoctl::grammar::{Flag, GLOBALS, Kind, Row, Source, TABLE};

/// What a value may be.
fn offered(kind: Kind) -> Offer {
    match kind.source() {
        Source::Words(words) => Offer::Words(words.iter().map(|row| row.name).collect()),
        Source::Files => Offer::Files,
        Source::Users
        | Source::Sessions
        | Source::Settings
        | Source::SettingValues
        | Source::Metrics
        | Source::Commands
        | Source::Nothing => Offer::Nothing,
    }
}

enum Offer {
    Words(Vec<&'static str>),
    Files,
    Nothing,
}

fn nouns() -> Vec<&'static str> {
    let mut nouns: Vec<_> = TABLE.iter().map(|row| row.noun).collect();
    nouns.dedup();
    nouns
}

fn verbs(noun: &str) -> Vec<&'static Row> {
    TABLE.iter().filter(|row| row.noun == noun && !row.verb.is_empty()).collect()
}

/// Long names that take a value, of pipoctl and of every command.
fn flags() -> impl Iterator<Item = &'static Flag> {
    GLOBALS.iter().map(|global| &global.flag).chain(TABLE.iter().flat_map(|row| row.options))
}

fn written(flags: impl Iterator<Item = &'static Flag>) -> Vec<String> {
    let mut names: Vec<String> = flags.map(|flag| format!("--{}", flag.long)).collect();
    names.sort();
    names.dedup();
    names
}

// ---- bash -----------------------------------------------------------------------------------------------

/// Finds noun and verb behind options, then offers what the table has there.
pub(crate) fn bash() -> String {
    let mut with_value: Vec<String> = flags().filter(|flag| flag.value.is_some()).map(both_forms).collect();
    with_value.sort();
    with_value.dedup();
    let mut out = format!(
        "# Made from the table of commands by client/tests/generated: change it there.\n\n\
         _pipoctl() {{\n    local word noun= verb= skip= at\n    COMPREPLY=()\n    \
         for ((at = 1; at < COMP_CWORD; at++)); do\n        word=${{COMP_WORDS[at]}}\n        \
         if [[ $skip ]]; then\n            skip=\n            continue\n        fi\n        \
         case $word in\n            {}) skip=yes ;;\n            -*) ;;\n            \
         *) if [[ -z $noun ]]; then noun=$word; elif [[ -z $verb ]]; then verb=$word; fi ;;\n        esac\n    \
         done\n    word=${{COMP_WORDS[COMP_CWORD]}}\n",
        with_value.join(" | ")
    );
    out.push_str("    if [[ $skip ]]; then\n        case ${COMP_WORDS[COMP_CWORD - 1]} in\n");
    for (forms, kind) in valued() {
        match offered(kind) {
            Offer::Words(words) => {
                let words = words.join(" ");
                out.push_str(&format!(
                    "            {forms}) COMPREPLY=($(compgen -W '{words}' -- \"$word\")) ;;\n"
                ));
            }
            Offer::Files => {
                out.push_str(&format!("            {forms}) COMPREPLY=($(compgen -f -- \"$word\")) ;;\n"));
            }
            Offer::Nothing => {}
        }
    }
    out.push_str("        esac\n        return\n    fi\n    local words=\n    case $noun/$verb in\n");
    out.push_str(&format!("        /) words='{}' ;;\n", nouns().join(" ")));
    for noun in nouns() {
        let verbs: Vec<_> = verbs(noun).iter().map(|row| row.verb).collect();
        out.push_str(&format!("        {noun}/) words='{}' ;;\n", verbs.join(" ")));
    }
    out.push_str("    esac\n    if [[ $word == -* ]]; then\n        ");
    let globals = written(GLOBALS.iter().map(|global| &global.flag));
    out.push_str(&format!("words='{}'\n        case $noun/$verb in\n", globals.join(" ")));
    for row in TABLE.iter().filter(|row| !row.options.is_empty()) {
        let options = written(row.options.iter());
        let pattern =
            if row.verb.is_empty() { format!("{}/", row.noun) } else { format!("{}/{}", row.noun, row.verb) };
        out.push_str(&format!("            {pattern}) words+=' {}' ;;\n", options.join(" ")));
    }
    out.push_str(
        "        esac\n    fi\n    COMPREPLY=($(compgen -W \"$words\" -- \"$word\"))\n}\n\n\
         complete -F _pipoctl pipoctl\n",
    );
    out
}

fn both_forms(flag: &Flag) -> String {
    flag.short.map_or_else(|| format!("--{}", flag.long), |short| format!("--{} | -{short}", flag.long))
}

/// Options with values, each long name once. Where a name has two kinds the words are the same.
fn valued() -> Vec<(String, Kind)> {
    let mut seen: Vec<&str> = Vec::new();
    let mut found = Vec::new();
    for flag in flags() {
        if let Some((_, kind)) = flag.value
            && !seen.contains(&flag.long)
        {
            seen.push(flag.long);
            found.push((both_forms(flag), kind));
        }
    }
    found
}

// ---- zsh ------------------------------------------------------------------------------------------------

/// `_describe` shows the meaning of each word.
pub(crate) fn zsh() -> String {
    let mut out =
        "#compdef pipoctl\n# Made from the table of commands by client/tests/generated: change it there.\n\n\
                   _pipoctl() {\n    local word noun= verb= skip= last=\n    local -a offered\n    \
                   for word in \"${(@)words[2,CURRENT-1]}\"; do\n        last=$word\n        \
                   if [[ -n $skip ]]; then\n            skip=\n            continue\n        fi\n        \
                   case $word in\n"
            .to_owned();
    let mut with_value: Vec<String> = flags().filter(|flag| flag.value.is_some()).map(both_forms).collect();
    with_value.sort();
    with_value.dedup();
    out.push_str(&format!(
        "            ({}) skip=yes ;;\n            (-*) ;;\n",
        with_value.join(" | ").replace(" | ", "|")
    ));
    out.push_str(
        "            (*) if [[ -z $noun ]]; then noun=$word; elif [[ -z $verb ]]; then verb=$word; fi ;;\n        \
         esac\n    done\n    if [[ -n $skip ]]; then\n        case $last in\n",
    );
    for (forms, kind) in valued() {
        let forms = forms.replace(" | ", "|");
        match offered(kind) {
            Offer::Words(words) => {
                out.push_str(&format!("            ({forms}) offered=({}) ;;\n", words.join(" ")));
            }
            Offer::Files => out.push_str(&format!("            ({forms}) _files; return ;;\n")),
            Offer::Nothing => {}
        }
    }
    out.push_str("        esac\n        _describe value offered\n        return\n    fi\n");
    out.push_str("    if [[ $PREFIX == -* ]]; then\n        offered=(\n");
    for global in GLOBALS {
        out.push_str(&described("            ", &format!("--{}", global.flag.long), global.flag.help));
    }
    out.push_str("        )\n        case $noun/$verb in\n");
    for row in TABLE.iter().filter(|row| !row.options.is_empty()) {
        let options: String = row
            .options
            .iter()
            .map(|flag| described("                ", &format!("--{}", flag.long), flag.help))
            .collect();
        out.push_str(&format!(
            "            ({}/{}) offered+=(\n{options}            ) ;;\n",
            row.noun, row.verb
        ));
    }
    out.push_str("        esac\n        _describe -o option offered\n        return\n    fi\n    case $noun/$verb in\n");
    let first = nouns().iter().map(|noun| described("            ", noun, "")).collect::<String>();
    out.push_str(&format!("        (/) offered=(\n{first}        ) ;;\n"));
    for noun in nouns() {
        let verbs: String =
            verbs(noun).iter().map(|row| described("            ", row.verb, row.help)).collect();
        if !verbs.is_empty() {
            out.push_str(&format!("        ({noun}/) offered=(\n{verbs}        ) ;;\n"));
        }
    }
    out.push_str("    esac\n    _describe command offered\n}\n\n_pipoctl \"$@\"\n");
    out
}

fn described(indent: &str, word: &str, help: &str) -> String {
    let help = help.replace('\'', "'\\''").replace(':', "\\:");
    if help.is_empty() { format!("{indent}'{word}'\n") } else { format!("{indent}'{word}:{help}'\n") }
}

// ---- fish -----------------------------------------------------------------------------------------------

/// One line for each thing that may be offered.
pub(crate) fn fish() -> String {
    let mut out = "# Made from the table of commands by client/tests/generated: change it there.\n\n\
                   complete -c pipoctl -f\n"
        .to_owned();
    for global in GLOBALS {
        out.push_str(&fish_option("", &global.flag));
    }
    let every_noun = nouns().join(" ");
    for noun in nouns() {
        out.push_str(&format!(
            "complete -c pipoctl -n 'not __fish_seen_subcommand_from {every_noun}' -a {noun}\n"
        ));
        let rows = verbs(noun);
        let words: Vec<_> = rows.iter().map(|row| row.verb).collect();
        for row in &rows {
            out.push_str(&format!(
                "complete -c pipoctl -n '__fish_seen_subcommand_from {noun}; and not __fish_seen_subcommand_from {}' \
                 -a {} -d {}\n",
                words.join(" "),
                row.verb,
                fish_quoted(row.help)
            ));
        }
    }
    for row in TABLE {
        let when = match row.verb {
            "" => format!("-n '__fish_seen_subcommand_from {}' ", row.noun),
            verb => format!(
                "-n '__fish_seen_subcommand_from {}; and __fish_seen_subcommand_from {verb}' ",
                row.noun
            ),
        };
        for flag in row.options {
            out.push_str(&fish_option(&when, flag));
        }
    }
    out
}

fn fish_option(when: &str, flag: &Flag) -> String {
    let short = flag.short.map(|short| format!("-s {short} ")).unwrap_or_default();
    let value = match flag.value.map(|(_, kind)| offered(kind)) {
        None => String::new(),
        Some(Offer::Nothing) => "-x ".to_owned(),
        Some(Offer::Files) => "-r -F ".to_owned(),
        Some(Offer::Words(words)) => format!("-x -a {} ", fish_quoted(&words.join(" "))),
    };
    format!("complete -c pipoctl {when}{short}-l {} {value}-d {}\n", flag.long, fish_quoted(flag.help))
}

fn fish_quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}
