use clap::{Arg, CommandFactory as _};

use super::*;

/// Every argument of the program and of all commands below it, with the command's name.
fn arguments() -> Vec<(String, Arg)> {
    fn collect(command: &clap::Command, found: &mut Vec<(String, Arg)>) {
        found.extend(command.get_arguments().map(|argument| (command.get_name().to_owned(), argument.clone())));
        command.get_subcommands().for_each(|below| collect(below, found));
    }
    let mut found = Vec::new();
    collect(&Cli::command(), &mut found);
    found
}

fn parse(arguments: &[&str]) -> Result<Command, clap::Error> {
    Cli::try_parse_from([&["multicredit"], arguments].concat()).map(Cli::into_command)
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_flag_has_an_environment_variable() {
    let flags: Vec<_> = arguments().into_iter().filter(|(_, argument)| argument.get_long().is_some()).collect();
    assert!(flags.len() > 20, "{}", flags.len());
    for (command, flag) in flags {
        assert!(flag.get_env().is_some(), "{command} {flag}");
    }
}

#[test]
fn help_shows_no_secret() {
    let secrets: Vec<_> = arguments()
        .into_iter()
        .filter(|(_, argument)| ["database_url", "admin_key"].contains(&argument.get_id().as_str()))
        .collect();
    assert!(secrets.len() > 4, "{}", secrets.len());
    for (command, secret) in secrets {
        assert!(secret.is_hide_env_values_set(), "{command} {secret}");
    }
}

#[test]
fn every_command_says_what_it_does_and_gives_an_example() {
    let mut commands = vec![Cli::command()];
    let mut seen = 0;
    while let Some(command) = commands.pop() {
        let name = command.get_name().to_owned();
        let example = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        assert!(command.get_about().is_some(), "{name}");
        assert!(example.starts_with("Example: ") && example.contains("multicredit"), "{name}");
        commands.extend(command.get_subcommands().cloned());
        seen += 1;
    }
    assert!(seen >= 8, "{seen}");
}

#[test]
fn the_defaults_are_those_that_are_documented() {
    let defaults = |id: &str| -> Vec<String> {
        let all = arguments().into_iter().filter(|(_, argument)| argument.get_id() == id);
        let mut all: Vec<_> = all.flat_map(|(_, argument)| argument.get_default_values().to_vec()).collect();
        all.dedup();
        all.into_iter().map(|value| value.to_str().unwrap().to_owned()).collect()
    };
    assert_eq!(defaults("database_url"), ["sqlite://data/multicredit.db?mode=rwc"]);
    assert_eq!(defaults("listen"), ["127.0.0.1:8080"]);
    assert_eq!(defaults("data_dir"), ["data"]);
    assert_eq!(defaults("log"), ["warn,multicredit=info,migration=info"]);
    assert_eq!(defaults("log_format"), ["text"]);
    assert_eq!(defaults("format"), ["text"]);
    assert_eq!(defaults("acquire_timeout_ms"), ["5000"]);
    assert_eq!(defaults("admin_key"), [""; 0]);
}

#[test]
fn no_command_means_serve_with_its_options() {
    let Ok(Command::Serve(args)) = parse(&["--listen", "127.0.0.1:0", "--migrate"]) else { panic!("not serve") };
    assert_eq!(args.listen, "127.0.0.1:0");
    assert!(args.database.migrate);
    let Ok(Command::Serve(args)) = parse(&["serve", "--demo", "--data-dir", "/tmp/x"]) else { panic!("not serve") };
    assert_eq!((args.demo, args.data_dir.to_str()), (true, Some("/tmp/x")));
}

#[test]
fn options_of_serving_do_not_go_with_other_commands() {
    assert!(parse(&["--demo", "verify"]).is_err());
    assert!(parse(&["verify", "--demo"]).is_err());
}

#[test]
fn flags_reach_the_store() {
    let flags = ["verify", "--database-url", "sqlite://x.db", "--max-connections", "3", "--acquire-timeout-ms", "250"];
    let Ok(Command::Verify(args)) = parse(&flags) else { panic!("not verify") };
    let config = args.database.store_config();
    assert_eq!((config.database_url.as_str(), config.max_connections), ("sqlite://x.db", 3));
    assert_eq!(config.acquire_timeout, Duration::from_millis(250));
}

#[test]
fn what_makes_no_sense_is_a_usage_error() {
    for bad in [
        &["serve", "--max-connections", "0"][..],
        &["serve", "--acquire-timeout-ms", "0"],
        &["serve", "--shutdown-delay-ms", "10001"],
        &["import"],
        &["import", "x.csv", "--create-missing", "gold=1"],
        &["import", "x.csv", "--format", "xml"],
        &["keys"],
        &["keys", "create", "--name", "x", "--scopes", "read,write"],
        &["keys", "revoke", "not-an-id"],
    ] {
        let error = parse(bad).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{bad:?}: {error}");
    }
}

#[test]
fn secrets_show_in_no_debug_output() {
    let command = parse(&["serve", "--admin-key", "hunter2", "--database-url", "postgres://u:swordfish@h/d"]).unwrap();
    let shown = format!("{command:?}");
    assert!(!shown.contains("hunter2") && !shown.contains("swordfish"), "{shown}");
}
