//! What the README shows is what the programs print. Lines with timings are left out of the
//! comparison; every other line must be the same.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The README's program, as it stands in `examples/`.
mod on_time {
    include!("../examples/on_time.rs");

    pub fn run() -> Result<(), Error> {
        main()
    }
}

/// Values on these lines depend on the machine, or on when ticks were cut.
const TIMINGS: [&str; 4] = ["  flights/s ", "  ticks ", "  commits ", "  commit p99 "];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn readme() -> String {
    std::fs::read_to_string(root().join("README.md")).unwrap()
}

/// The lines of the code block behind `<!-- {mark} -->`.
fn block(mark: &str) -> Vec<String> {
    let readme = readme();
    let mut lines = readme.lines().skip_while(|line| *line != format!("<!-- {mark} -->"));
    assert!(lines.next().is_some(), "the README has no block marked `{mark}`");
    assert!(lines.next().is_some_and(|line| line.starts_with("```")), "no code behind `{mark}`");
    lines.take_while(|line| *line != "```").map(str::to_owned).collect()
}

/// A directory with the data in it, for programs that name it by a relative path.
fn place() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(root().join("examples"), dir.path().join("examples")).unwrap();
    dir
}

fn highwater(arguments: &[&str], place: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
    let output = command.args(arguments).current_dir(place).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

fn comparable<'a>(lines: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let is_timing = |line: &&str| TIMINGS.iter().any(|timing| line.starts_with(timing));
    let lines = lines.into_iter().filter(|line| !is_timing(line)).map(str::trim_end);
    let lines: Vec<String> = lines.map(str::to_owned).collect();
    let text = lines.join("\n");
    text.trim_matches('\n').lines().map(str::to_owned).collect()
}

fn assert_shown(mark: &str, printed: &Output) {
    let printed = String::from_utf8(printed.stdout.clone()).unwrap();
    let shown = block(mark);
    let shown = comparable(shown.iter().map(String::as_str));
    assert!(shown.len() > 5, "hardly anything is shown as {mark}");
    assert_eq!(comparable(printed.lines()), shown, "{mark}");
}

#[test]
fn the_demo_prints_what_is_shown() {
    let place = place();
    assert_shown("output: highwater demo", &highwater(&["demo"], place.path()));
}

#[test]
fn the_plan_prints_what_is_shown() {
    let place = place();
    assert_shown("output: highwater plan", &highwater(&["plan"], place.path()));
}

#[test]
fn the_program_is_the_example_and_short() {
    let example = std::fs::read_to_string(root().join("examples/on_time.rs")).unwrap();
    let code: Vec<&str> = example.lines().skip_while(|line| line.starts_with("//")).collect();
    assert_eq!(block("program: examples/on_time.rs"), code);
    let written = code.iter().filter(|line| !line.is_empty()).count();
    assert!(written <= 20, "{written} lines");
}

/// The lines of a sink's finished files, sorted.
fn lines_in(dir: &Path) -> Vec<String> {
    let files: Vec<PathBuf> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    let read = |path: &PathBuf| std::fs::read_to_string(path).unwrap();
    let text: String = files.iter().map(read).collect();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn the_program_writes_what_is_shown() {
    // The program names its directories relative to where it is run: hence a process of its own.
    let place = place();
    let child = ["--exact", "run_the_program", "--ignored"];
    let test = std::env::current_exe().unwrap();
    let output = Command::new(test).args(child).current_dir(place.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));

    let means = lines_in(&place.path().join("out/on-time/mean"));
    let late = lines_in(&place.path().join("out/on-time/late"));
    assert_eq!(means[..2], block("output: on_time mean"));
    assert_eq!(late[..1], block("output: on_time late"));
    let readme = readme();
    assert_eq!((means.len(), late.len()), (59_621, 1_579));
    assert!(readme.contains("59,621 hourly means and 1,579 late flights"));
}

#[test]
#[ignore = "run by the test above, in a directory of its own"]
fn run_the_program() {
    on_time::run().unwrap();
}

#[test]
fn a_comparison_can_fail() {
    let shown = ["", "  ticks      82", "flights 5", ""];
    assert_eq!(comparable(shown), comparable(["  ticks      90", "flights 5  "]));
    assert_ne!(comparable(shown), comparable(["  ticks      82", "flights 6"]));
}
