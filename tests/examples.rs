//! The examples run, and do what they say.

use std::process::Command;

/// `examples/on_time.rs` is run by `tests/readme.rs`.
mod embed_process {
    #![allow(dead_code)]
    include!("../examples/embed_process.rs");

    pub fn run() -> Result<(), Error> {
        main()
    }
}

mod service {
    #![allow(dead_code)]
    include!("../examples/service.rs");

    pub fn run() -> BoxResult<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(once())
    }
}

mod law_finds_a_bug {
    #![allow(dead_code)]
    include!("../examples/law_finds_a_bug.rs");

    pub fn run() -> Result<(), Violation> {
        main()
    }
}

/// Runs an ignored test of this file in a process of its own, and returns what it printed.
fn printed_by(test: &str) -> String {
    let this = std::env::current_exe().unwrap();
    let arguments = ["--exact", test, "--ignored", "--nocapture"];
    let output = Command::new(this).args(arguments).output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{printed}{}", String::from_utf8_lossy(&output.stderr));
    printed
}

#[test]
fn absences_are_told_once_each() {
    let printed = printed_by("run_embed_process");
    let alerts: Vec<&str> = printed.lines().filter(|line| line.contains("silent since")).collect();
    assert_eq!(
        alerts,
        [
            "lathe is silent since 1970-01-01T00:00:30Z, last at 30.5 °C",
            "press is silent since 1970-01-01T00:02:20Z, last at 99 °C",
            "lathe is silent since 1970-01-01T00:02:30Z, last at 29 °C",
        ]
    );
}

#[test]
fn the_service_answers() {
    let printed = printed_by("run_service");
    for expected in [
        "POST /clicks   HTTP/1.1 200 OK",
        r#"GET /minutes   [{"key":"ann","window":{"start":"1970-01-01T00:00:00Z","end":"1970-01-01T00:01:00Z"},"value":2},{"key":"bob","#,
        "shutdown       4 clicks in, 4 used",
    ] {
        assert!(printed.contains(expected), "{printed}");
    }
}

#[test]
fn the_checker_finds_the_mistake_and_not_the_mended_one() {
    let printed = printed_by("run_law_finds_a_bug");
    let (wrong, mended) = printed.split_once("mended: ").expect("both are printed");
    assert!(wrong.contains("found: results depend on how the input came"), "{printed}");
    assert_eq!(wrong.matches("  push Sample").count(), 2, "{printed}");
    assert!(mended.starts_with("100 runs"), "{printed}");
}

#[test]
#[ignore = "run by a test above, whose process reads what it prints"]
fn run_law_finds_a_bug() {
    law_finds_a_bug::run().unwrap();
}

#[test]
#[ignore = "run by a test above, whose process reads what it prints"]
fn run_embed_process() {
    embed_process::run().unwrap();
}

#[test]
#[ignore = "run by a test above, whose process reads what it prints"]
fn run_service() {
    service::run().unwrap();
}
