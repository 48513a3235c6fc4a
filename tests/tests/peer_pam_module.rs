//! The PAM module as any process on the host may load it: small, alone, and gone when it is unloaded.

#![allow(clippy::unwrap_used, reason = "a fixture that fails fails the test")]

use mailsql_rig::{Daemon, TempRoot, run};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Largest module of the socket mode, stripped, in bytes.
const MAX_SIZE: u64 = 500 * 1024;
/// Names that must not stand in its dependency tree.
const FORBIDDEN: [&str; 5] = ["tokio", "mysql", "rusqlite", "rustls", "toml"];

/// A host in C: starts, authenticates and ends N times, each time loading and unloading the module; then prints its
/// memory early and late, its open files, and whether the module is still mapped.
const HOST: &str = r#"
#include <security/pam_appl.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
static const char *password;
static int answer(int n, const struct pam_message **m, struct pam_response **r, void *data) {
    (void)m; (void)data;
    *r = calloc(n, sizeof **r);
    for (int i = 0; i < n; i++) (*r)[i].resp = strdup(password);
    return PAM_SUCCESS;
}
static long resident(void) {
    long pages = 0; FILE *f = fopen("/proc/self/statm", "r");
    if (f) { if (fscanf(f, "%*d %ld", &pages) != 1) pages = -1; fclose(f); }
    return pages * 4;
}
static int files(void) {
    int n = 0; DIR *d = opendir("/proc/self/fd");
    while (readdir(d)) n++;
    closedir(d); return n;
}
static int mapped(void) {
    char line[4096]; int found = 0; FILE *f = fopen("/proc/self/maps", "r");
    while (fgets(line, sizeof line, f)) if (strstr(line, "pam_mailsql")) found = 1;
    fclose(f); return found;
}
int main(int argc, char **argv) {
    int rounds = atoi(argv[3]), good = 0, before = files(); long early = 0;
    (void)argc;
    for (int i = 0; i < rounds; i++) {
        pam_handle_t *h; struct pam_conv c = { answer, 0 };
        password = i % 2 ? "wrong" : "apass";
        if (pam_start_confdir(argv[2], "info@example.jp", &c, argv[1], &h) != PAM_SUCCESS) return 1;
        int code = pam_authenticate(h, 0);
        if (i % 2 ? code == PAM_AUTH_ERR : code == PAM_SUCCESS && pam_acct_mgmt(h, 0) == PAM_SUCCESS) good++;
        pam_end(h, code);
        if (i == rounds / 5) early = resident();
    }
    printf("good %d\nmapped %d\nfiles %d\ngrowth %ld\n", good, mapped(), files() - before, resident() - early);
    return 0;
}
"#;

/// Builds the module as it is packaged and returns its path.
fn module() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args(["build", "-q", "-p", "pam_mailsql", "--no-default-features", "--profile", "module"])
        .current_dir(workspace);
    run(cargo, b"").unwrap().ok().unwrap();
    let target = std::env::current_exe().unwrap().ancestors().nth(3).unwrap().to_owned();
    target.join("module/libpam_mailsql.so")
}

#[test]
fn the_module_is_small_and_shows_pams_functions_only() {
    let module = module();
    let size = std::fs::metadata(&module).unwrap().len();
    assert!(size < MAX_SIZE, "{size} bytes");
    let mut nm = Command::new("nm");
    nm.args(["-D", "--defined-only"]).arg(&module);
    let symbols = run(nm, b"").unwrap().ok().unwrap();
    let mut names: Vec<&str> = symbols.lines().filter_map(|line| line.split_whitespace().last()).collect();
    names.sort_unstable();
    let expected = ["acct_mgmt", "authenticate", "chauthtok", "close_session", "open_session", "setcred"];
    assert_eq!(names, expected.map(|name| format!("pam_sm_{name}")));

    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut tree = Command::new(env!("CARGO"));
    tree.args(["tree", "-p", "pam_mailsql", "--no-default-features", "-e", "normal", "--prefix", "none"]);
    tree.current_dir(workspace);
    let tree = run(tree, b"").unwrap().ok().unwrap();
    assert!(tree.contains("mailsql-ask"), "{tree}");
    for line in tree.lines() {
        let name = line.split_whitespace().next().unwrap_or("");
        assert!(!FORBIDDEN.iter().any(|word| name == *word || name.starts_with(&format!("{word}_"))), "{line}");
    }
}

/// Runs the host for a number of rounds, under a wrapper if one is given.
fn rounds(count: u32, wrapper: &[&str]) -> (String, String) {
    let root = TempRoot::new().unwrap();
    root.folder("db", 0o2770, 65534, 65534).unwrap();
    let path = root.path().display();
    let text = format!(
        "[database]\nurl = \"sqlite:{path}/db/mail.db\"\n[serve]\nuser = \"nobody\"\ngroup = \"nogroup\"\n[control]\ndir = \"{path}\"\n\
         [state]\ndir = \"{path}/db\"\n[ask]\nlisten = {{ socket = \"{path}/ask.sock\", mode = \"0666\" }}\n"
    );
    let config = root.write_mode("mailsql.toml", text, 0o640).unwrap();
    let mailsql = |arguments: &[&str], input: &str| {
        let mut command = Command::new(mailsql_rig::program("mailsql").unwrap());
        command.arg("--config").arg(&config).args(arguments);
        run(command, input.as_bytes()).unwrap().ok().unwrap()
    };
    mailsql(&["init", "--database", &format!("sqlite:{path}/db/mail.db")], "");
    std::os::unix::fs::chown(root.join("db/mail.db"), Some(65534), Some(65534)).unwrap();
    mailsql(&["domain", "add", "example.jp"], "");
    mailsql(&["user", "add", "info@example.jp", "--password-stdin"], "apass");
    let serve = Daemon::setup("mailsql").arg("--config").arg(&config).arg("serve").ready_socket(root.join("ask.sock"));
    let _serve = serve.start().unwrap();

    let line = format!("{} socket={path}/ask.sock\n", module().display());
    root.folder("pam", 0o755, 0, 0).unwrap();
    root.write("pam/rounds", format!("auth required {line}account required {line}")).unwrap();
    let source = root.write("host.c", HOST).unwrap();
    let mut gcc = Command::new("gcc");
    gcc.args(["-Wall", "-Werror", "-g", "-o"]).arg(root.join("host")).arg(&source).arg("-lpam");
    run(gcc, b"").unwrap().ok().unwrap();
    let mut words: Vec<String> = wrapper.iter().map(ToString::to_string).collect();
    words.extend([root.join("host").display().to_string(), format!("{path}/pam"), "rounds".into(), count.to_string()]);
    let mut host = Command::new(&words[0]);
    host.args(&words[1..]);
    let ran = run(host, b"").unwrap();
    assert_eq!(ran.code, 0, "{}", ran.text());
    (ran.stdout, ran.stderr)
}

fn figure(text: &str, name: &str) -> i64 {
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()).unwrap()
}

/// Enough for a leak of a few bytes a round to show.
const ROUNDS: u32 = 1000;

/// Under the memory checker a round takes fifty times as long, and it finds what it finds in the first ones.
const CHECKED_ROUNDS: u32 = if cfg!(feature = "slow") { ROUNDS } else { 100 };

#[test]
fn rounds_of_loading_and_unloading_leave_nothing_behind() {
    let (text, _) = rounds(ROUNDS, &[]);
    assert_eq!(figure(&text, "good"), i64::from(ROUNDS), "{text}");
    assert_eq!(figure(&text, "mapped"), 0, "the module is unloaded: {text}");
    assert_eq!(figure(&text, "files"), 0, "{text}");
    assert!(figure(&text, "growth") <= 256, "kilobytes: {text}");
}

#[test]
fn valgrind_finds_no_error_in_rounds_of_loading_and_unloading() {
    let (text, errors) = rounds(
        CHECKED_ROUNDS,
        &["valgrind", "--error-exitcode=9", "--leak-check=full", "--errors-for-leak-kinds=definite"],
    );
    assert_eq!(figure(&text, "good"), i64::from(CHECKED_ROUNDS), "{text}");
    assert_eq!(figure(&text, "mapped"), 0, "{text}");
    assert!(errors.contains("ERROR SUMMARY: 0 errors"), "{errors}");
}
