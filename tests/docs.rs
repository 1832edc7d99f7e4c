//! The rules in `docs/SEMANTICS.md` name their files and tests: these must exist.

use std::collections::BTreeSet;
use std::path::Path;

/// All sources of the project, and the names of the functions in them.
fn functions(dir: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") && !path.ends_with(".git") {
            functions(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            for part in text.split("fn ").skip(1) {
                let end = part.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(0);
                found.insert(part[..end].to_owned());
            }
        }
    }
}

/// What stands in backticks.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// A file or directory of the project, or a file of tests named without its ending.
fn is_place(name: &str) -> bool {
    let name = name.trim_end_matches('/');
    let tests = format!("tests/{name}.rs");
    [name, &tests].iter().any(|path| Path::new(path).exists())
}

#[test]
fn every_rule_names_files_and_tests_that_exist() {
    let mut known = BTreeSet::new();
    functions(Path::new("."), &mut known);
    let text = std::fs::read_to_string("docs/SEMANTICS.md").unwrap();
    let (mut rules, mut missing) = (0, Vec::new());
    for line in text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| rule")) {
        // A bar in code is not the end of a cell.
        let cells: Vec<&str> = line.split(" | ").collect();
        let [.., file, test] = cells[..] else { panic!("not a rule: {line}") };
        rules += 1;
        let place = |name: &&str| name.contains('/');
        missing.extend(quoted(file).filter(place).filter(|name| !is_place(name)));
        let unknown = |name: &&str| !is_place(name) && !known.contains(*name);
        // A name with a capital is a case of the test before it.
        let is_name = |name: &&str| {
            name.starts_with(char::is_lowercase)
                && name.chars().all(|c| c.is_alphanumeric() || "_/.".contains(c))
        };
        missing.extend(quoted(test).filter(is_name).filter(unknown));
    }
    println!("{rules} rules");
    assert!(rules > 90, "{rules} rules");
    assert!(missing.is_empty(), "these do not exist: {missing:#?}");
}
