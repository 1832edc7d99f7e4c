//! State directories and snapshots that were damaged: what a store reads back is exactly what some
//! commit left, and the record says which; or it says what is damaged. Nothing else, thousands of times.

mod forge;
mod history;
mod image;
mod mutate;
mod shapes;
mod snapshots;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use highwater_state::{DurableStore, Error, Store};

use crate::history::{History, Rng};
use crate::image::Image;
use crate::mutate::{Among, KINDS};
use crate::shapes::Shape;

/// What became of one damaged directory.
enum Verdict {
    Restored(u64),
    Refused(String),
    Wrong(String),
}

#[derive(Default)]
struct Row {
    tried: u32,
    last: u32,
    older: u32,
    refused: u32,
}

/// Opens, reads everything, goes on by one commit, moves all into the base, and reads again.
fn judge(history: &History, open: &dyn Fn() -> Result<DurableStore, Error>) -> Verdict {
    let read = |store: &DurableStore| history.read(store);
    let run = || -> Result<Result<u64, String>, Error> {
        let store = open()?;
        let Ok(number) = read(&store)? else { return read(&store) };
        store.commit(history.commit(number + 1))?;
        while store.maintain(true)? {}
        drop(store);
        match read(&open()?)? {
            Ok(next) if next == number + 1 => Ok(Ok(number)),
            Ok(next) => Ok(Err(format!("commit {} is gone, {next} is there", number + 1))),
            Err(wrong) => Ok(Err(format!("one commit later: {wrong}"))),
        }
    };
    match run() {
        Ok(Ok(number)) => Verdict::Restored(number),
        Ok(Err(wrong)) => Verdict::Wrong(wrong),
        Err(error) => Verdict::Refused(error.to_string()),
    }
}

/// A reader beside a writer sees the same directory: it must not see more than is there.
fn judge_reader(history: &History, open: &dyn Fn() -> Result<DurableStore, Error>) -> Verdict {
    match open().and_then(|store| history.read(&store)) {
        Ok(Ok(number)) => Verdict::Restored(number),
        Ok(Err(wrong)) => Verdict::Wrong(format!("read only: {wrong}")),
        Err(error) => Verdict::Refused(error.to_string()),
    }
}

fn both(reader: Verdict, writer: Verdict) -> Verdict {
    match (reader, writer) {
        (Verdict::Wrong(wrong), _) => Verdict::Wrong(wrong),
        (Verdict::Restored(one), Verdict::Restored(two)) if one != two => {
            Verdict::Wrong(format!("commit {one} to a reader, {two} to the writer"))
        }
        (_, writer) => writer,
    }
}

/// Ends the process if a mutation takes so long: a store that hangs gives no answer either.
const PATIENCE: Duration = Duration::from_secs(30);

/// Calls `run`, and reports on standard error the mutation in which it hangs.
fn with_patience(current: &Mutex<String>, run: impl FnOnce(&mpsc::Sender<()>)) {
    let (alive, heard) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            loop {
                match heard.recv_timeout(PATIENCE) {
                    Ok(()) => {}
                    Err(mpsc::RecvTimeoutError::Disconnected) => break,
                    Err(mpsc::RecvTimeoutError::Timeout) => {
                        eprintln!("hangs: {}", current.lock().unwrap());
                        std::process::abort();
                    }
                }
            }
        });
        run(&alive);
        drop(alive);
    });
}

struct Campaign {
    title: &'static str,
    history: Arc<History>,
    shapes: Vec<Shape>,
    foreign: Vec<Shape>,
    /// What a message must hold: where the damage is.
    named: &'static str,
}

#[derive(Default)]
struct Outcome {
    rows: BTreeMap<&'static str, Row>,
    wrong: Vec<String>,
    panics: Vec<String>,
}

impl Campaign {
    /// Tries each kind on each shape `times` times, or more if the environment says so.
    fn run(&self, times: u64, judge: &dyn Fn(&Image) -> Verdict) {
        let more = std::env::var("CORRUPTION_TIMES").ok().and_then(|times| times.parse().ok());
        let times = times * more.unwrap_or(1);
        let mut outcome = Outcome::default();
        let current = Mutex::new(String::new());
        with_patience(&current, |alive| {
            for (index, shape) in self.shapes.iter().enumerate() {
                let older: Vec<&Image> = self.shapes[..=index].iter().map(|s| &s.image).collect();
                // The same shape of the other directory most often.
                let mut foreign: Vec<&Image> = self.foreign.iter().map(|s| &s.image).collect();
                foreign.extend([&self.foreign[index].image; 4]);
                let among = Among { image: &shape.image, older: &older, foreign: &foreign };
                for (number, (kind, mutate)) in KINDS.iter().enumerate() {
                    for time in 0..times {
                        let seed = (index as u64) << 40 | (number as u64) << 20 | time;
                        let mut image = among.image.clone();
                        let what = mutate(&mut image, &among, &mut Rng(seed));
                        let what = format!("{} / {kind} / {time}: {what}", shape.name);
                        current.lock().unwrap().clone_from(&what);
                        let verdict = catch_unwind(AssertUnwindSafe(|| judge(&image)));
                        alive.send(()).unwrap();
                        self.note(&mut outcome, kind, what, shape.last, verdict.ok());
                    }
                }
            }
        });
        self.print(&outcome);
        let Outcome { wrong, panics, .. } = outcome;
        assert!(wrong.is_empty(), "{} wrong answers:\n{}", wrong.len(), wrong.join("\n"));
        assert!(panics.is_empty(), "{} panics:\n{}", panics.len(), panics.join("\n"));
    }

    fn note(
        &self,
        outcome: &mut Outcome,
        kind: &'static str,
        what: String,
        last: u64,
        verdict: Option<Verdict>,
    ) {
        let row = outcome.rows.entry(kind).or_default();
        row.tried += 1;
        match verdict {
            None => outcome.panics.push(what),
            Some(Verdict::Wrong(why)) => outcome.wrong.push(format!("{what}: {why}")),
            Some(Verdict::Restored(number)) if number == last => row.last += 1,
            Some(Verdict::Restored(number)) if number < last => row.older += 1,
            Some(Verdict::Restored(number)) => {
                outcome.wrong.push(format!("{what}: commit {number} was not yet there"));
            }
            Some(Verdict::Refused(message)) => {
                row.refused += 1;
                if !message.contains(self.named) {
                    outcome.wrong.push(format!("{what}: refused by `{message}`"));
                }
            }
        }
    }

    fn print(&self, outcome: &Outcome) {
        println!("{}", self.title);
        println!("{:36}{:>8}{:>8}{:>8}{:>8}", "", "tried", "last", "older", "refused");
        let mut all = Row::default();
        for (kind, _) in KINDS {
            let row = &outcome.rows[kind];
            print_row(kind, row);
            all.tried += row.tried;
            all.last += row.last;
            all.older += row.older;
            all.refused += row.refused;
        }
        print_row("all", &all);
        let (wrong, panics) = (outcome.wrong.len(), outcome.panics.len());
        println!("silent wrong answers: {wrong}, panics: {panics}\n");
    }
}

fn print_row(name: &str, row: &Row) {
    let Row { tried, last, older, refused } = row;
    println!("{name:36}{tried:>8}{last:>8}{older:>8}{refused:>8}");
}

#[test]
fn damage_on_a_simulated_disk_is_older_or_refused() {
    let history = Arc::new(History::new(0));
    let foreign = shapes::on_sim(&Arc::new(History::new(1 << 60)));
    let campaign = Campaign {
        title: "log and base in files",
        shapes: shapes::on_sim(&history),
        foreign,
        history,
        named: "state/",
    };
    let history = &campaign.history;
    campaign.run(40, &|image| {
        let disk = image::to_sim(image);
        let reader = judge_reader(history, &|| shapes::open_sim_read_only(&disk));
        both(reader, judge(history, &|| shapes::open_sim(&disk)))
    });
}

#[test]
fn damage_with_rocksdb_is_older_or_refused() {
    let history = Arc::new(History::new(0));
    let foreign = shapes::on_rocks(&Arc::new(History::new(1 << 60)));
    let campaign = Campaign {
        title: "log in files, base by RocksDB",
        shapes: shapes::on_rocks(&history),
        foreign,
        history,
        named: "damaged-state",
    };
    let history = &campaign.history;
    campaign.run(6, &|image| {
        let dir = tempfile::Builder::new().prefix("damaged-state").tempdir().unwrap();
        image::to_dir(image, dir.path());
        let read_only = || DurableStore::open_dir_read_only(dir.path());
        let reader = judge_reader(history, &read_only);
        both(reader, judge(history, &|| shapes::open_rocks(dir.path())))
    });
}
