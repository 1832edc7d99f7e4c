//! PostgreSQL as sink, source and lookup table, with a real server.
#![cfg(feature = "postgres")]

mod postgres_common;
mod servers;

use std::path::Path;
use std::time::{Duration, Instant};

use highwater::postgres::{Postgres, PostgresLookup, PostgresSink, Violations};
use highwater::prelude::*;
use highwater::{sink, source};
use postgres_common::{Db, Event, TABLES, counts, events, latest, stored};
use serde::{Deserialize, Serialize};

fn settings(dir: &Path) -> Settings {
    Settings::at(dir.join("state")).workers(2).commit_interval(Duration::from_millis(2))
}

/// Counts of events in windows of a second, into a sink.
fn windows(rows: Vec<Event>, to: PostgresSink) -> Flow {
    let flow = Flow::new("windows");
    flow.source("events", Memory::of(rows))
        .event_time(|e| e.at, Disorder::at_most(seconds(1)))
        .key_by(|e| &e.key)
        .window("counts", Tumbling::of(seconds(1)))
        .aggregate(Count)
        .drop_late("there are none")
        .sink("out", to);
    flow
}

fn run(flow: Flow, dir: &Path) -> Result<(), Error> {
    flow.run(settings(dir))
}

/// What a flow of some rows into a sink comes to.
fn put<T>(rows: Vec<T>, to: PostgresSink) -> Result<(), Error>
where
    T: Clone + Send + Sync + Serialize + for<'a> Deserialize<'a> + 'static,
{
    let dir = tempfile::tempdir().unwrap();
    let flow = Flow::new("rows");
    flow.source("rows", Memory::of(rows)).sink("out", to);
    run(flow, dir.path())
}

#[test]
fn windows_are_appended_and_upserted() {
    let Some(db) = Db::shared() else { return };
    db.run(TABLES);
    let dir = tempfile::tempdir().unwrap();
    let rows = events(20_000);
    run(windows(rows.clone(), db.postgres().append("counts")), dir.path()).unwrap();
    assert_eq!(stored(&db, "counts"), counts(&rows));
    let dir = tempfile::tempdir().unwrap();
    db.run("truncate highwater_sinks");
    run(windows(rows.clone(), db.postgres().upsert("latest", ["key"])), dir.path()).unwrap();
    assert_eq!(stored(&db, "latest"), latest(&rows));
    let marks = db.one("select flow, sink, incarnation from highwater_sinks");
    assert_eq!(marks, "windows|out|1");
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Everything {
    n: i64,
    flag: bool,
    small: i16,
    large: u64,
    real: f64,
    exact: String,
    text: String,
    letter: char,
    at: EventTime,
    bytes: Vec<u8>,
    list: Vec<Option<String>>,
    document: Option<serde_json::Value>,
    id: String,
    nothing: Option<i32>,
}

#[test]
fn values_of_every_type_arrive_as_they_are() {
    let Some(db) = Db::shared() else { return };
    db.run(
        "create table everything (nothing int, n bigint, flag bool, small smallint, \
         large numeric(20), real float8, exact numeric(10,2), text text, letter char(1), \
         at timestamptz, bytes bytea, list text[], document jsonb, id uuid, \
         made timestamptz default now())",
    );
    let row = Everything {
        n: i64::MIN,
        flag: true,
        small: -1,
        large: u64::MAX,
        real: 0.1,
        exact: "1234.50".to_owned(),
        text: "tab\tline\nback\\slash \\N 'quote' \"é€\"".to_owned(),
        letter: 'é',
        at: EventTime::from_micros(1_700_000_000_123_456),
        bytes: vec![0, 1, 255, b'\\'],
        list: vec![Some("a,\"b\\".to_owned()), None, Some(String::new())],
        document: Some(serde_json::json!({"a": [1, "\t\\", null]})),
        id: "0f8fad5b-d9cb-469f-a165-70867728950e".to_owned(),
        nothing: None,
    };
    let ends = Everything { n: 1, at: EventTime::MAX, real: f64::NAN, ..row.clone() };
    let mut starts = Everything { n: 2, at: EventTime::MIN, real: f64::INFINITY, ..row.clone() };
    starts.document = None;
    let bc = EventTime::from_seconds(-62_167_219_200 - 86_400 * 400);
    let old = Everything { n: 3, at: bc, real: -1e300, ..row.clone() };
    put(vec![row.clone(), ends, starts, old], db.postgres().append("everything")).unwrap();
    let found = db.rows(
        "select large, real, exact, letter, at, bytes, id, nothing, small, flag, \
         made is not null from everything order by n",
    );
    let rest = "\\x0001ff5c|0f8fad5b-d9cb-469f-a165-70867728950e|-|-1|t|t";
    let line = |real: &str, at: &str| format!("18446744073709551615|{real}|1234.50|é|{at}|{rest}");
    assert_eq!(
        found,
        [
            line("0.1", "2023-11-14 22:13:20.123456+00"),
            line("NaN", "infinity"),
            line("Infinity", "-infinity"),
            line("-1e+300", "0003-11-27 00:00:00+00 BC"),
        ]
    );
    // Read back through the lookup's way to decode rows.
    let json = db.one("select to_json(e) from everything e order by n limit 1");
    let back: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(back["text"], serde_json::json!(row.text));
    assert_eq!(back["list"], serde_json::json!(row.list));
    assert_eq!(back["document"], row.document.unwrap());
    assert_eq!(db.one("select count(*) from everything where document is null"), "1");
}

#[test]
fn texts_of_any_characters_are_stored() {
    #[derive(Clone, Serialize, Deserialize)]
    struct Text {
        n: i64,
        v: Option<String>,
    }
    let Some(db) = Db::shared() else { return };
    db.run("create table texts (n bigint, v text)");
    let mut seed = 7_u64;
    let mut random = move |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    const CHARS: [char; 16] = [
        '\\',
        '\t',
        '\n',
        '\r',
        'N',
        'n',
        '.',
        '\u{8}',
        '\u{b}',
        '"',
        '\'',
        'é',
        '€',
        '\u{7f}',
        ' ',
        '\u{10ffff}',
    ];
    let text = |n| {
        let chars = (0..random(12)).map(|_| CHARS[random(16) as usize]).collect();
        Text { n, v: (random(10) > 0).then_some(chars) }
    };
    let rows: Vec<Text> = (0..5_000).map(text).collect();
    put(rows.clone(), db.postgres().append("texts")).unwrap();
    // In hex, so that nothing on the way back hides a difference.
    let found = db.rows("select n, encode(convert_to(v, 'UTF8'), 'hex') from texts order by n");
    let hex = |text: &Option<String>| match text {
        Some(text) => text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>(),
        None => "-".to_owned(),
    };
    let expected: Vec<String> = rows.iter().map(|r| format!("{}|{}", r.n, hex(&r.v))).collect();
    assert_eq!(found, expected);
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Pair {
    id: i64,
    v: String,
}

fn pairs(count: i64) -> Vec<Pair> {
    (0..count).map(|id| Pair { id, v: format!("v{id}") }).collect()
}

/// The error of a start, and what it says.
fn refused(result: Result<(), Error>, kind: ErrorKind, parts: &[&str]) {
    let error = result.expect_err("it was let pass");
    let said = format!("{error:?}");
    assert_eq!(error.kind(), kind, "{said}");
    assert_eq!(error.operator(), Some("out"), "{said}");
    for part in parts {
        assert!(said.contains(part), "`{part}` is not in: {said}");
    }
}

#[test]
fn tables_that_do_not_fit_are_refused_at_the_start() {
    let Some(db) = Db::shared() else { return };
    let to = |table: &str| db.postgres().append(table);
    let start = |sink: PostgresSink| put(Vec::<Pair>::new(), sink);
    refused(start(to("nowhere")), ErrorKind::Io, &["no table \"nowhere\"", "create it"]);
    db.run(
        "create table other (id bigint, w text); create table kinds (id bigint, v int); \
         create table needs (id bigint, v text, more int not null); \
         create table made (id bigint generated always as identity, v text); \
         create table plain (id bigint, v text)",
    );
    refused(start(to("other")), ErrorKind::Plan, &["field `v`", "has no column", "id, w"]);
    let parts = ["`v` of the rows is text", "column `v`", "is integer"];
    refused(start(to("kinds")), ErrorKind::Plan, &parts);
    refused(start(to("needs")), ErrorKind::Plan, &["`more` (integer)", "must not be null"]);
    refused(start(to("made")), ErrorKind::Plan, &["`id`", "worked out by the database"]);
    let upsert = |key: &str| start(db.postgres().upsert("plain", [key]));
    refused(upsert("id"), ErrorKind::Plan, &["no unique index", "create unique index on"]);
    refused(upsert("x"), ErrorKind::Plan, &["no column `x`"]);
    db.run("create unique index on plain (id) where id > 0");
    refused(upsert("id"), ErrorKind::Plan, &["no unique index"]);
    db.run("create unique index on plain (id)");
    let parts = ["column `id`", "may be null", "alter column \"id\" set not null"];
    refused(upsert("id"), ErrorKind::Plan, &parts);
    db.run("alter table plain alter id set not null");
    upsert("id").unwrap();
}

#[derive(Clone, Serialize, Deserialize)]
struct Named {
    name: Option<String>,
    v: i64,
}

#[test]
fn rows_without_a_key_replace_each_other_or_are_refused() {
    let Some(db) = Db::shared() else { return };
    db.run(
        "create table nulls (name text, v bigint, unique nulls not distinct (name)); \
         create table strict (name text primary key, v bigint)",
    );
    let named = |v: i64| Named { name: (v % 2 == 0).then(|| "a".to_owned()), v };
    let put_all = |table: &str| {
        for round in 0..3 {
            db.run("drop table if exists highwater_sinks");
            let sink = db.postgres().upsert(table, ["name"]);
            let sink = sink.violations(Violations::dead_letters("refused"));
            put((round * 10..round * 10 + 10).map(named).collect(), sink).unwrap();
        }
    };
    put_all("nulls");
    assert_eq!(db.rows("select name, v from nulls order by v"), ["a|28", "-|29"]);
    put_all("strict");
    assert_eq!(db.rows("select name, v from strict"), ["a|28"]);
    let refused =
        "select count(*), bool_and(error like 'null value in column \"name\"%') from refused";
    assert_eq!(db.one(refused), "15|t");
}

#[test]
fn a_state_that_is_new_is_told_from_one_that_is_old() {
    let Some(db) = Db::shared() else { return };
    db.run("create table t (id bigint, v text)");
    put(pairs(3), db.postgres().append("t")).unwrap();
    let again = put(pairs(3), db.postgres().append("t"));
    refused(again, ErrorKind::State, &["an earlier run", "this state is new", "in memory"]);
}

#[test]
fn a_statement_that_takes_too_long_names_its_setting() {
    let Some(db) = Db::shared() else { return };
    db.run(
        "create table slow (id bigint, v text); \
         create function sleep() returns trigger language plpgsql as \
         $$begin perform pg_sleep(1); return new; end$$; \
         create trigger slow before insert on slow for each row execute function sleep()",
    );
    let database = db.postgres().timeout(Duration::from_millis(200));
    let sink = database.reconnect_for(Duration::from_secs(1)).append("slow");
    let parts = ["than `timeout` allows (200ms): raise that", "statement timeout"];
    refused(put(pairs(1), sink), ErrorKind::Io, &parts);
}

#[test]
fn a_role_that_may_not_gets_told_what_to_ask_for() {
    let Some(db) = Db::shared() else { return };
    let role = servers::unique("role").replace('-', "_");
    let schema = db.one("select current_schema()");
    db.run(&format!(
        "create role {role} login; grant usage on schema {schema} to {role}; \
         create table t (id bigint primary key, v text); grant insert on t to {role}"
    ));
    let append = || put(pairs(3), db.postgres_as(&role).append("t"));
    let upsert = || put(pairs(3), db.postgres_as(&role).upsert("t", ["id"]));
    refused(upsert(), ErrorKind::Io, &["grant UPDATE, SELECT on \"t\""]);
    refused(append(), ErrorKind::Io, &["\"highwater_sinks\" is missing", "create table"]);
    // The statement that the error names, and the grants.
    let error = append().unwrap_err().to_string();
    let statement = error.split('`').nth(3).unwrap();
    db.run(statement);
    refused(append(), ErrorKind::Io, &["permission denied", "grant it"]);
    db.run(&format!("grant select, insert, update on highwater_sinks to {role}"));
    append().unwrap();
    assert_eq!(db.one("select count(*) from t"), "3");
    let unknown = db.postgres_as("nobody_at_all").append("t");
    refused(put(pairs(1), unknown), ErrorKind::Io, &["lets this role not in"]);
    refused(
        put(pairs(1), Postgres::at("hoost=x").append("t")),
        ErrorKind::Plan,
        &["connection string"],
    );
}

#[test]
fn a_violated_constraint_stops_the_flow_or_goes_to_the_dead_letters() {
    let Some(db) = Db::shared() else { return };
    db.run("create table t (id smallint primary key, v text, check (v <> 'v77'))");
    let mut rows = pairs(300);
    let sink = || db.postgres().append("t");
    let parts = ["refuses a row", "t_v_check", "v77"];
    refused(put(rows.clone(), sink()), ErrorKind::Input, &parts);
    assert_eq!(db.one("select count(*) from t"), "0", "a part of a commit is visible");
    rows[200].v = "a\0b".to_owned();
    let result = put(rows.split_off(200), sink());
    refused(result, ErrorKind::UserCode, &["a row cannot be stored: column `v`", "NUL", "200"]);

    let mut rows = pairs(300);
    rows[200].v = "a\0b".to_owned();
    rows[10].id = 1 << 20;
    rows[30].id = 20;
    rows[299].id = 5;
    let sink = sink().violations(Violations::dead_letters("refused"));
    db.run("truncate highwater_sinks");
    put(rows, sink).unwrap();
    assert_eq!(
        db.one("select count(*), sum(id) from t"),
        format!("295|{}", 44850 - 10 - 30 - 77 - 200 - 299)
    );
    let letters = db.rows(
        "select \"row\"->>'id', error from refused where flow = 'rows' and sink = 'out' \
         order by (\"row\"->>'id')::int",
    );
    let expected = [
        ("5", "duplicate key"),
        ("20", "duplicate key"),
        ("77", "t_v_check"),
        ("200", "NUL"),
        ("1048576", "out of range for type smallint"),
    ];
    assert_eq!(letters.len(), expected.len(), "{letters:?}");
    for (letter, (id, why)) in letters.iter().zip(expected) {
        let (found, error) = letter.split_once('|').unwrap();
        assert!(found == id && error.contains(why), "{letter}");
    }
}

#[test]
fn the_last_row_of_a_key_counts_with_refused_ones_too() {
    let Some(db) = Db::shared() else { return };
    db.run("create table t (id bigint primary key, v text, check (v <> 'v7'))");
    let row = |n: i64| Pair { id: n % 10, v: format!("v{n}") };
    let rows: Vec<Pair> = (0..100).map(row).chain([row(7)]).collect();
    let sink = db.postgres().upsert("t", ["id"]);
    put(rows, sink.violations(Violations::dead_letters("refused"))).unwrap();
    let expected: Vec<String> = (0..10).map(|n| format!("{n}|v{}", 90 + n)).collect();
    assert_eq!(db.rows("select id, v from t order by id"), expected);
    let refused = db.rows("select distinct error from refused");
    assert!(refused.len() == 1 && refused[0].contains("t_v_check"), "{refused:?}");
}

#[test]
fn a_database_that_is_away_is_waited_for_and_given_up() {
    let at = "host=127.0.0.1 port=1 user=x";
    let sink = Postgres::at(at).reconnect_for(Duration::from_millis(300)).append("t");
    let started = Instant::now();
    refused(put(pairs(1), sink), ErrorKind::Io, &["127.0.0.1:1/x", "could not be used for 300ms"]);
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_database_that_is_killed_or_paused_in_the_middle_changes_nothing() {
    let Some(db) = Db::private() else { return };
    db.run(TABLES);
    let dir = tempfile::tempdir().unwrap();
    let (sender, source) = source::channel::<Event>(1_000);
    let flow = Flow::new("killed");
    let windows = flow
        .source("events", source)
        .event_time(|e| e.at, Disorder::at_most(seconds(1)))
        .key_by(|e| &e.key)
        .window("counts", Tumbling::of(seconds(1)))
        .aggregate(Count)
        .drop_late("there are none");
    let postgres = db.postgres().timeout(Duration::from_secs(30));
    windows.sink("append", postgres.append("counts"));
    windows.sink("upsert", postgres.upsert("latest", ["key"]));
    let handle = flow.spawn(settings(dir.path())).unwrap();
    let rows = events(6_000);
    let feed = {
        let rows = rows.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            for row in rows {
                drop(runtime.block_on(sender.send(row)).unwrap());
                std::thread::sleep(Duration::from_micros(300));
            }
        })
    };
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(200));
        db.server.kill();
        std::thread::sleep(Duration::from_millis(100));
        db.server.start();
    }
    db.server.pause();
    std::thread::sleep(Duration::from_millis(700));
    db.server.resume();
    feed.join().unwrap();
    handle.wait().unwrap();
    assert_eq!(stored(&db, "counts"), counts(&rows));
    assert_eq!(stored(&db, "latest"), latest(&rows));
}

fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[test]
fn a_second_copy_takes_over_and_an_older_one_is_refused() {
    let Some(db) = Db::shared() else { return };
    db.run("create table t (id bigint, v text)");
    let dir = tempfile::tempdir().unwrap();
    let (first, second, old) =
        (dir.path().join("first"), dir.path().join("second"), dir.path().join("old"));
    let start = |state: &Path, adopt: bool| {
        let (sender, source) = source::channel::<Pair>(100);
        let flow = Flow::new("copies");
        let sink = db.postgres().append("t");
        flow.source("rows", source).sink("out", if adopt { sink.adopt() } else { sink });
        (flow.spawn(settings(state)).unwrap(), sender)
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let send = |sender: &source::ChannelSender<Pair>, id: i64| {
        runtime.block_on(async {
            let receipt = sender.send(Pair { id, v: String::new() }).await.unwrap();
            receipt.durable().await
        })
    };
    let stop = |handle: Handle| runtime.block_on(handle.shutdown()).map(drop);
    let wait_for = |count: &str| {
        let until = Instant::now() + Duration::from_secs(10);
        while db.one("select count(*) from t") != count {
            assert!(Instant::now() < until, "there are never {count} rows");
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    let (handle, sender) = start(&first, false);
    send(&sender, 1).unwrap();
    wait_for("1");
    stop(handle).unwrap();
    copy_dir(&first, &second);
    copy_dir(&first, &old);

    let (one, to_one) = start(&first, false);
    // Until its start has claimed the table, nothing can be taken over from it.
    send(&to_one, 2).unwrap();
    wait_for("2");
    let (two, _to_two) = start(&second, false);
    refused(
        two.wait().map(drop),
        ErrorKind::State,
        &["a run that this state knows nothing of", "older copy"],
    );
    stop(one).unwrap();

    copy_dir(&first, &dir.path().join("third"));
    let (one, to_one) = start(&first, false);
    std::thread::sleep(Duration::from_millis(300));
    let (three, to_three) = start(&dir.path().join("third"), false);
    send(&to_three, 3).unwrap();
    wait_for("3");
    // It was started by mistake; the one before it must not write any more.
    let _ = send(&to_one, 4);
    refused(one.wait().map(drop), ErrorKind::State, &["another start of the flow has taken over"]);
    stop(three).unwrap();
    assert_eq!(db.one("select array_agg(id order by id) from t"), "{1,2,3}");

    let (two, to_two) = start(&old, true);
    send(&to_two, 5).unwrap();
    wait_for("4");
    stop(two).unwrap();
    let (two, to_two) = start(&old, false);
    send(&to_two, 6).unwrap();
    wait_for("5");
    stop(two).unwrap();
}

/// What was claimed at a start is durable though nothing comes: a crash does not take it back.
#[test]
fn a_start_without_input_commits_its_claim() {
    let Some(db) = Db::shared() else { return };
    db.run("create table t (id bigint, v text)");
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let (_sender, source) = source::channel::<Pair>(1);
        let flow = Flow::new("claimed");
        flow.source("rows", source).sink("out", db.postgres().append("t"));
        let handle = flow.spawn(settings(dir.path())).unwrap();
        let until = Instant::now() + Duration::from_secs(60);
        while handle.metrics().commits == 0 {
            assert!(Instant::now() < until, "no commit was made");
            std::thread::sleep(Duration::from_millis(10));
        }
        handle.stop();
        handle.wait().unwrap();
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Customer {
    id: i32,
    name: Option<String>,
    since: EventTime,
}

#[test]
fn a_table_is_looked_up_by_key() {
    let Some(db) = Db::private() else { return };
    db.run(
        "create table customers (id int primary key, name varchar(20), since timestamptz); \
         insert into customers select n, 'c' || n, \
         '2020-01-01Z'::timestamptz + n * interval '1 day' \
         from generate_series(0, 998, 2) n",
    );
    let customers = db.postgres().lookup::<i64, Customer>("customers", "id");
    let names = db.postgres().lookup::<i64, String>("customers", "id").column("name");
    let (results, received) = sink::channel();
    let flow = Flow::new("lookup");
    let orders = flow
        .source("orders", source::Generated::source(1).events(3_000).keys(1_000))
        .event_time(|o| o.time, Disorder::at_most(seconds(1)))
        .key_with(|o| o.key as i64);
    orders
        .lookup("customers", customers)
        .left(|key, _, customer| (*key, customer.cloned()))
        .key_with(|(key, _)| *key)
        .lookup("names", names)
        .left(|_, (key, customer), name| (key, customer, name.cloned()))
        .sink("out", results);
    // A connection that the server has closed is made anew.
    let kill = std::thread::spawn({
        let at = db.at.clone();
        move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let connecting = tokio_postgres::connect(&at, tokio_postgres::NoTls);
                let (client, connection) = connecting.await.unwrap();
                tokio::spawn(connection);
                for _ in 0..20 {
                    let kill = "select pg_terminate_backend(pid) from pg_stat_activity \
                                where application_name = 'highwater'";
                    client.batch_execute(kill).await.unwrap();
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            });
        }
    });
    let handle = flow.spawn(Settings::in_memory().workers(2).tick_max_events(100)).unwrap();
    let mut seen = 0;
    for (key, customer, name) in received {
        let known = key % 2 == 0;
        assert_eq!(name, known.then(|| format!("c{key}")));
        let since = EventTime::from_seconds(1_577_836_800 + key * 86_400);
        assert_eq!(customer, name.map(|name| Customer { id: key as i32, name: Some(name), since }));
        seen += 1;
    }
    handle.wait().unwrap();
    kill.join().unwrap();
    assert_eq!(seen, 3_000);
}

/// What a lookup finds for each of some keys.
fn found<K>(lookup: PostgresLookup<K, String>, keys: &[K]) -> Vec<Option<String>>
where
    K: Key + Data + Serialize + for<'a> Deserialize<'a>,
{
    let (results, received) = sink::channel();
    let flow = Flow::new("lookup");
    flow.source("keys", Memory::of(keys.iter().cloned().enumerate().collect::<Vec<_>>()))
        .event_time(|_| EventTime::MIN, Disorder::at_most(seconds(1)))
        .key_with(|(_, key)| key.clone())
        .lookup("out", lookup)
        .left(|_, (n, _), found| (n, found.cloned()))
        .sink("found", results);
    flow.run(Settings::in_memory()).unwrap();
    let mut found: Vec<(usize, Option<String>)> = received.into_iter().collect();
    found.sort();
    found.into_iter().map(|(_, found)| found).collect()
}

#[test]
fn a_key_that_the_column_cannot_hold_has_no_row() {
    let Some(db) = Db::shared() else { return };
    let id = "0f8fad5b-d9cb-469f-a165-70867728950e";
    db.run(&format!(
        "create table small (id smallint primary key, v text); insert into small values (7, 'a'); \
         create table large (id bigint primary key, v text); insert into large values (7, 'a'); \
         create table uuids (id uuid primary key, v text); insert into uuids values ('{id}', 'a'); \
         create table chars (id char(3) primary key, v text); \
         insert into chars values ('abc', 'a'), ('b', 'b')"
    ));
    let postgres = db.postgres();
    let a = || Some("a".to_owned());
    let numbers = [1_i64 << 40, 7, -40_000, 7, 8];
    let small = postgres.lookup("small", "id").column("v");
    assert_eq!(found(small, &numbers), [None, a(), None, a(), None]);
    let large = postgres.lookup("large", "id").column("v");
    assert_eq!(found(large, &[u64::MAX, 7, 1 << 63]), [None, a(), None]);
    let texts = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>();
    let uuids = postgres.lookup("uuids", "id").column("v");
    let keys = texts(&["x", id, "", "a\0b", &id.to_uppercase(), "0f8fad5b-d9cb-469f-a165"]);
    assert_eq!(found(uuids, &keys), [None, a(), None, None, a(), None]);
    let chars = postgres.lookup("chars", "id").column("v");
    assert_eq!(found(chars, &texts(&["abc", "bcd", "a\0"])), [a(), None, None]);
}

#[test]
fn lookups_that_cannot_work_say_why() {
    let Some(db) = Db::shared() else { return };
    db.run("create table twice (id bigint, v text); insert into twice values (1, 'a'), (1, 'b')");
    let ask = |table: &str, column: &str, key: &str| {
        let lookup = db.postgres().lookup::<i64, String>(table, key).column(column);
        let flow = Flow::new("lookup");
        flow.source("keys", Memory::of([1_i64]))
            .event_time(|_| EventTime::MIN, Disorder::at_most(seconds(1)))
            .key_with(|key| *key)
            .lookup("out", lookup)
            .left(|_, _, found| found.cloned())
            .sink("found", Stdout::json());
        flow.run(Settings::in_memory())
    };
    refused(ask("nowhere", "v", "id"), ErrorKind::Io, &["no table \"nowhere\""]);
    refused(ask("twice", "w", "id"), ErrorKind::Io, &["no column `w`"]);
    refused(ask("twice", "v", "id"), ErrorKind::Io, &["several rows of one key"]);
    db.run("create table once (id bigint, n bigint); insert into once values (1, 5)");
    refused(ask("once", "n", "id"), ErrorKind::Io, &["no `alloc::string::String`", "integer `5`"]);
}

#[test]
fn a_query_is_read_in_partitions_and_goes_on_after_a_stop() {
    let Some(db) = Db::private() else { return };
    db.run(
        "create table orders (id int primary key, customer text, at timestamptz); \
         insert into orders select n, 'c' || n % 7, \
         '2020-01-01Z'::timestamptz + n * '1 s'::interval \
         from generate_series(0, 19998, 3) n",
    );
    #[derive(Clone, Serialize, Deserialize)]
    struct Order {
        id: i64,
        customer: String,
        at: EventTime,
    }
    let flow = || {
        let source = db
            .postgres()
            .query::<Order>("select * from orders where id >= $1 and id < $2;")
            .by_key("id", -10..30_000)
            .partitions(4);
        let flow = Flow::new("orders");
        let orders =
            flow.source("orders", source).event_time(|o| o.at, Disorder::at_most(seconds(0)));
        orders.map(|o| (o.id, o.customer, o.at)).sink("out", db.postgres().append("copied"));
        flow
    };
    db.run("create table copied (\"0\" bigint, \"1\" text, \"2\" timestamptz)");
    let dir = tempfile::tempdir().unwrap();
    let settings = || settings(dir.path()).tick_max_events(50);
    // Stopped again and again, and the database restarted.
    for round in 0..20 {
        let handle = flow().spawn(settings()).unwrap();
        std::thread::sleep(Duration::from_millis(40));
        if round == 3 {
            db.server.kill();
            db.server.start();
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(handle.shutdown()).unwrap();
    }
    flow().run(settings()).unwrap();
    let query = |table: &str| format!("select count(*), sum(hashtext({table}::text)) from {table}");
    assert_eq!(db.one(&query("orders")), db.one(&query("copied")));
    assert!(db.one("select incarnation > 3 from highwater_sinks") == "t");
}

#[test]
fn queries_that_cannot_work_say_why() {
    let Some(db) = Db::shared() else { return };
    db.run(
        "create table t (id bigint, v text); \
         insert into t values (1, 'a'), (2, 'b'), (2, 'c'), (7, null)",
    );
    let read = |query: &str, range: std::ops::Range<i64>| {
        let flow = Flow::new("query");
        let source = db.postgres().query::<Pair>(query).by_key("id", range);
        flow.source("out", source).sink("found", Stdout::json());
        flow.run(Settings::in_memory())
    };
    let good = "select id, v from t where id >= $1 and id < $2";
    refused(
        read(good, 0..2).map(|()| read(good, 0..3)).unwrap(),
        ErrorKind::Input,
        &["several rows with the id 2", "unique"],
    );
    let parts = ["`0..9`", "is no `", "invalid type: null", "position 7"];
    refused(read("select * from t where id >= $1 + 7 and id < $2", 0..9), ErrorKind::Input, &parts);
    let parts = ["with the id 1, which is not in 5..9", "$1"];
    refused(read("select * from t where $1 < $2", 5..9), ErrorKind::Plan, &parts);
    // The order of texts is not that of numbers, and fractions have no position.
    db.run("create table keys (text text, exact numeric, v text)");
    for (column, found) in [("text", "text"), ("exact", "numeric")] {
        let query = format!(
            "select {column} id, v from keys \
             where {column}::bigint >= $1 and {column}::bigint < $2"
        );
        let parts = ["key `id`", &format!("of the type {found}"), "cast it in the query"];
        refused(read(&query, 0..9), ErrorKind::Plan, &parts);
    }
    let wrong = read("select * from u where id >= $1 and id < $2", 0..9);
    refused(wrong, ErrorKind::Io, &["a table is missing", "\"u\""]);
}
