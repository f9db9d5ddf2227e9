//! Where settings come from, and what wrong ones are told.

mod harness;

use std::{fs, process::Output};

use harness::{command, text};

fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    command(arguments).envs(variables.iter().copied()).output().expect("the binary runs")
}

fn file(content: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().expect("a directory");
    let path = folder.path().join("centaur.toml");
    fs::write(&path, content).expect("written");
    let name = path.display().to_string();
    (folder, name)
}

#[test]
fn flags_win_over_the_environment_which_wins_over_the_file() {
    let (_folder, file) =
        file("[topics]\ndefault_queues = 2\n[shutdown]\ntimeout = \"11s\"\n[log]\nlevel = \"warn\"\n");
    let variables = [("CENTAUR_TOPICS__DEFAULT_QUEUES", "3"), ("CENTAUR_SHUTDOWN__TIMEOUT", "12s")];
    let arguments = ["config", "print", "--sources", "--config", &file, "--set", "topics.default_queues=4"];
    let printed = text(&run(&arguments, &variables).stdout);
    for expected in [
        "default_queues = 4  # --set topics.default_queues=4".to_owned(),
        "timeout = \"12s\"  # environment CENTAUR_SHUTDOWN__TIMEOUT".to_owned(),
        format!("level = \"warn\"  # {file}:6:1"),
        "flush = \"sync\"  # default".to_owned(),
    ] {
        assert!(printed.contains(&expected), "{expected:?} is missing in:\n{printed}");
    }
}

#[test]
fn what_is_printed_is_a_file_that_means_the_same() {
    let printed = text(&run(&["config", "print"], &[]).stdout);
    let (_folder, file) = file(&printed);
    let again = run(&["config", "print", "--config", &file], &[]);
    assert_eq!(text(&again.stdout), printed);
}

#[test]
fn three_errors_are_reported_at_once() {
    let (_folder, file) =
        file("[store]\nflsh = \"sync\"\nsegment_size = \"1 parsec\"\n\n[proxy.tls]\nmode = \"maybe\"\n");
    let output = run(&["config", "check", &file], &[]);
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(78), "{errors}");
    assert!(errors.contains("3 problems"), "{errors}");
    assert!(
        errors.contains(&format!("{file}:2:1: unknown key \"store.flsh\"; the nearest is \"store.flush\"")),
        "{errors}"
    );
    assert!(errors.contains(&format!("{file}:3:1: store.segment_size: \"1 parsec\" is not a size")), "{errors}");
    assert!(
        errors.contains(&format!("{file}:6:1: proxy.tls.mode: \"maybe\" is not one of permissive, required, off")),
        "{errors}"
    );
}

#[test]
fn a_right_file_is_ok() {
    let (_folder, file) = file("[store]\nflush = \"async\"\nretention.age = \"3d\"\nretention.size = \"10GiB\"\n");
    let output = run(&["config", "check", &file], &[]);
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(0), "ok: 3 keys set\n"));
}

#[test]
fn an_unknown_variable_is_an_error() {
    let output = run(&["config", "check"], &[("CENTAUR_STORE__FLSH", "sync")]);
    assert_eq!(output.status.code(), Some(78));
    let errors = text(&output.stderr);
    assert!(errors.contains("CENTAUR_STORE__FLSH: no such key; the nearest is CENTAUR_STORE__FLUSH"), "{errors}");
}

#[test]
fn the_server_refuses_a_wrong_configuration() {
    let output = run(&["serve", "--set", "store.flush=sometimes"], &[]);
    assert_eq!(output.status.code(), Some(78), "{}", text(&output.stderr));
}

#[test]
fn wrong_usage_has_its_own_exit_code() {
    for arguments in [
        &["serve", "--nonsense"][..],
        &["serve", "--roles", "proxy"],
        &["topic", "create"],
        &["message", "list", "t", "--offset", "1"],
    ] {
        let output = run(arguments, &[]);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", text(&output.stderr));
    }
}

#[test]
fn completions_exist_for_common_shells() {
    for shell in ["bash", "zsh", "fish"] {
        let output = run(&["completions", shell], &[]);
        assert!(output.status.success() && text(&output.stdout).contains("centaur"), "{shell}");
    }
}
