//! Tests of the grammar as a whole: how lines are read, what is wrong with others, help, completion.

use expect_test::expect;
use pipo_protocol::v2::{COMMANDS, Effect, Role};
use proptest::prelude::*;

use super::*;

fn command(line: &str) -> Parsed {
    parse_line(line).unwrap_or_else(|error| panic!("{line}: {error}")).command.expect("a command")
}

fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

#[test]
fn the_words_that_scripts_use_are_commands() {
    for line in [
        "user list",
        "user add ada --password-stdin",
        "user remove ada",
        "user password ada",
        "user role ada admin",
        "session list",
        "session show 1f",
        "session kill 1f",
        "session trace 1f",
        "setting list",
        "setting get buffer-size",
        "setting set buffer-size 65536",
        "setting reset buffer-size",
        "config diff",
        "config check",
        "config commit",
        "config confirm",
        "config rollback",
        "dns show",
        "dns flush",
        "dns flush example.com",
        "log follow",
        "log rotate",
        "metrics",
        "events",
        "server info",
        "server workers",
        "server drain",
        "server undrain",
        "server shutdown",
        "statistics",
        "watch -n 2 user list",
        "help",
    ] {
        command(line);
    }
}

#[test]
fn every_command_of_the_protocol_that_people_may_say_is_in_the_table() {
    for wire in COMMANDS.iter().filter(|row| row.effect != Effect::Association) {
        let row = TABLE.iter().find(|row| (row.noun, row.verb) == (wire.noun, wire.verb));
        let row = row.unwrap_or_else(|| panic!("{} {} is missing", wire.noun, wire.verb));
        assert_eq!(row.wire, Some(wire.command));
    }
}

#[test]
fn the_table_is_consistent() {
    for row in TABLE {
        assert!(row.help.ends_with('.'), "{}", row.words());
        assert_eq!(TABLE.iter().filter(|other| other.words() == row.words()).count(), 1, "{}", row.words());
        assert_eq!(TABLE.iter().filter(|other| other.action == row.action).count(), 1, "{}", row.words());
        let fixed = row.arguments.split_last().map_or(&[][..], |(_, fixed)| fixed);
        assert!(fixed.iter().all(|argument| argument.arity == Arity::One), "{}", row.words());
        for option in row.options {
            assert_eq!(row.options.iter().filter(|other| other.long == option.long).count(), 1);
        }
    }
    assert_eq!(MENU.len(), 19);
    for row in MENU {
        let first = row.words.first().copied().unwrap_or_default();
        assert!(TABLE.iter().any(|known| known.noun == first), "{}", row.title);
    }
}

#[test]
fn values_are_given_to_their_arguments_and_options() {
    let parsed = command("session kill 1f 2f --user ada --age-min=10m --dry-run");
    assert_eq!(parsed.row.action, Action::SessionKill);
    assert_eq!(parsed.values.texts("SESSION").collect::<Vec<_>>(), ["1f", "2f"]);
    assert_eq!(parsed.values.user("user").unwrap().as_bytes(), b"ada");
    assert_eq!(parsed.values.span_ms("age-min"), Some(600_000));
    assert!(parsed.values.has("dry-run") && !parsed.values.has("all"));

    let parsed = command("config commit buffer-size=64k confirmed 30");
    assert_eq!(parsed.values.number("confirmed"), Some(30_u32));
    assert_eq!(parsed.values.text("SETTING=VALUE"), Some("buffer-size=64k"));

    let parsed = command("watch -n0.5 session list --user ada");
    assert_eq!(parsed.values.span_ms("interval"), Some(500));
    assert_eq!(parsed.values.texts("COMMAND").collect::<Vec<_>>(), ["session", "list", "--user", "ada"]);

    let parsed = command("setting set access-log -- -");
    assert_eq!(parsed.values.text("VALUE"), Some("-"));
    assert_eq!(command("metrics dns_").values.text("PREFIX"), Some("dns_"));
    assert_eq!(command("metrics follow dns_").row.action, Action::MetricsFollow);
}

#[test]
fn options_of_the_command_go_before_those_of_pipoctl() {
    let said = parse_words(&words("--user root session list --user ada --json"), Scope::CommandLine).unwrap();
    assert_eq!(said.globals.text("user"), Some("root"));
    assert_eq!(said.command.unwrap().values.text("user"), Some("ada"));
    assert!(said.globals.has("json"));
    let said = parse_words(&words("-s ::1 -c help -c statistics"), Scope::CommandLine).unwrap();
    assert_eq!(said.globals.texts("command").collect::<Vec<_>>(), ["help", "statistics"]);
    assert!(said.command.is_none());
}

#[test]
fn unique_beginnings_and_numbers_of_the_menu_are_commands() {
    for (line, expected) in [
        ("us l", Action::UserList),
        ("u l", Action::UserList),
        ("sess k 1", Action::SessionKill),
        ("stat", Action::Statistics),
        ("0", Action::UserList),
        ("3", Action::Metrics),
        ("6", Action::ServerInfo),
        ("11 ada", Action::UserList),
        ("12 ada", Action::UserAdd),
        ("16 65536", Action::SettingSet),
        ("? user", Action::Help),
    ] {
        assert_eq!(command(line).row.action, expected, "{line}");
    }
}

#[test]
fn a_question_mark_asks_for_help_wherever_it_stands() {
    for (line, on) in [
        ("?", None),
        ("user ?", Some("user")),
        ("us l ?", Some("user list")),
        ("user role ada ?", Some("user role")),
    ] {
        let said = parse_line(line).unwrap();
        assert!(said.globals.has("help"), "{line}");
        assert_eq!(said.globals.text("help-on"), on, "{line}");
    }
    let said = parse_words(&words("--server x 6"), Scope::CommandLine).unwrap();
    assert_eq!(said.command.unwrap().values.text("field"), Some("users_connected_count"));
}

#[test]
fn what_is_wrong_is_said_in_one_sentence() {
    let lines = [
        "usre list",
        "reboot",
        "user lst",
        "user frob",
        "se list",
        "user",
        "user add",
        "user list a b",
        "session kill xyz",
        "session list --usre ada",
        "user list --limit 0",
        "session list --stage relaying",
        "user role ada king",
        "user list --server x",
        "metrics --frob",
        "19",
        "session list --user",
        "user add 'a",
        "config commit confirmed",
        "watch",
        "user remove '\\q'",
        "session kill --all=yes",
    ];
    let said: String = lines
        .iter()
        .map(|line| match parse_line(line) {
            Ok(said) => panic!("{line}: {said:?}"),
            Err(error) => format!("{line}: {error}\n"),
        })
        .collect();
    expect![[r#"
        usre list: "usre" is not a command; did you mean user?
        reboot: "reboot" is not a command; help lists the commands
        user lst: user "lst" is not a command; did you mean user list?
        user frob: user "frob" is not a command; it has list, add, remove, password or role
        se list: "se" may be session, setting or server
        user: user: list, add, remove, password or role is missing
        user add: user add: NAME is missing; usage: user add NAME [OPTIONS]
        user list a b: user list: "b" is too much; usage: user list [NAME] [OPTIONS]
        session kill xyz: session kill: SESSION: "xyz" is not allowed: up to 16 hexadecimal digits
        session list --usre ada: session list: "--usre" is not an option; did you mean --user?
        user list --limit 0: --limit: "0" is not allowed: a number from 1 to 4294967295
        session list --stage relaying: --stage: "relaying" is not allowed: negotiate, authenticate, request, resolve, connect, relay, closing
        user role ada king: user role: ROLE: "king" is not allowed: user, observer, operator, admin
        user list --server x: --server belongs on the command line of pipoctl
        metrics --frob: "--frob" is not an option
        19: "19" is not a command; help lists the commands
        session list --user: --user: NAME is missing: a name of 1 to 255 octets, others than printable ones as \xNN
        user add 'a: a ' is not closed
        config commit confirmed: --confirmed: SECONDS is missing: a number from 1 to 86400
        watch: watch: COMMAND is missing; usage: watch COMMAND... [OPTIONS]
        user remove '\q': user remove: NAME: "\q" is not allowed: a name of 1 to 255 octets, others than printable ones as \xNN
        session kill --all=yes: "--all=yes" takes no value
    "#]]
    .assert_eq(&said);
}

#[test]
fn help_is_filtered_by_role() {
    expect![[r#"
        Commands, each by any unique beginning of its words; help COMMAND tells more:

          config show         Shows the candidate.
          config discard      Forgets the candidate, or one of its changes.
          statistics          Shows one's own sessions and bytes.
          watch               Repeats a command that only looks.
          help                Explains commands; ? does the same, also behind the beginning of a command.

        The numbers of the original menu work as commands, too:

           0  list users                              user list
           1  historic connections                    metrics sessions_accepted
           2  current connections                     metrics sessions_current
           3  maximum concurrent connections          metrics sessions_highest
           4  bytes sent                              metrics bytes_down
           5  bytes received                          metrics bytes_up
           6  users connected                         server info --field=users_connected_count
           7  users registered                        server info --field=users_registered_count
           8  I/O buffer size                         setting get buffer-size
           9  selector timeout                        setting get poll-timeout
          10  idle timeout                            setting get idle-timeout
          11  current connections of a user: NAME     user list
          12  add a user: NAME                        user add
          13  remove a user: NAME                     user remove
          14  credential dissector: on or off         setting set dissector
          15  idle clean-up: on or off                setting set idle-timeout
          16  I/O buffer size: BYTES                  setting set buffer-size
          17  selector timeout: SECONDS               setting set poll-timeout
          18  idle timeout: SECONDS                   setting set idle-timeout
    "#]]
    .assert_eq(&overview(Some(Role::User)));
    assert!(overview(Some(Role::Observer)).contains("  session list "));
    assert!(!overview(Some(Role::Observer)).contains("  session kill "));
    assert!(overview(None).contains("  user add "));
    expect![[r#"
        user add NAME [OPTIONS]
          Adds a user, who can connect at once.
          From the role admin on.
          With --protocol 1: roles user and admin, no doors; the password goes in clear.

          NAME                         the user's name

        Options:
          --password-stdin             read the password from standard input, one line, instead of asking
                                       twice
          --role ROLE                  what it may do on the admin channel (user) [user, observer, operator,
                                       admin]
          --doors DOORS                where it may enter (proxy for the role user, else both) [proxy,
                                       admin, both]
    "#]]
    .assert_eq(&command_help(&words("user add")).unwrap());
    assert!(command_help(&words("session")).unwrap().contains("session kill"));
    assert!(command_help(&words("frob")).is_err());
}

#[test]
fn completion_offers_what_may_stand_there() {
    let offered = |line: &str, role| {
        let completion = complete(line, line.len(), role);
        let texts: Vec<_> = completion.candidates.into_iter().map(|candidate| candidate.text).collect();
        (texts.join(" "), completion.source, completion.of)
    };
    let admin = Some(Role::Admin);
    for (line, words, source) in [
        (
            "",
            "user session setting config dns log metrics events server statistics watch help",
            Source::Nothing,
        ),
        ("se", "session setting server", Source::Nothing),
        ("user ", "list add remove password role", Source::Nothing),
        ("user re", "remove", Source::Nothing),
        ("us remove a", "", Source::Users),
        ("session kill 1f ", "", Source::Sessions),
        ("session list --st", "--stage", Source::Nothing),
        ("session list --stage re", "request resolve relay", Source::Nothing),
        ("session list --user ", "", Source::Users),
        ("user role ada o", "observer operator", Source::Nothing),
        ("setting get ", "", Source::Settings),
        ("watch -n 2 session l", "list", Source::Nothing),
        ("help us", "user", Source::Nothing),
        ("help user r", "remove role", Source::Nothing),
        ("metrics f", "follow", Source::Metrics),
        ("13 a", "", Source::Users),
        ("user list --j", "--json --json-lines", Source::Nothing),
        ("frob x", "", Source::Nothing),
    ] {
        assert_eq!(offered(line, admin), (words.to_owned(), source, None), "{line:?}");
    }
    assert_eq!(offered("", Some(Role::User)).0, "config statistics watch help");
    let of = Some("auth".to_owned());
    assert_eq!(offered("setting set auth ", admin), (String::new(), Source::SettingValues, of));
    let completion = complete("user remove 'a b", 16, admin);
    assert_eq!((completion.start, completion.word.as_str()), (12, "a b"));
}

proptest! {
    #[test]
    fn no_line_is_too_odd(line in "(user|session|watch|config|help|[0-9]{1,2})?[ -~\u{80}-\u{2fff}\\\\'\"]{0,40}") {
        let _ = parse_line(&line);
        for cursor in 0..=line.len() {
            let _ = complete(&line, cursor, None);
        }
    }

    #[test]
    fn any_word_in_single_quotes_stays_itself(word in "[^'\u{0}]{0,40}") {
        let expected = vec!["user".to_owned(), word.clone()];
        prop_assert_eq!(split(&format!("user '{word}'")).unwrap(), expected);
    }
}
