//! What is done to a directory.

use crate::forge;
use crate::history::Rng;
use crate::image::Image;

/// A directory, and others to take files from.
pub struct Among<'a> {
    pub image: &'a Image,
    /// The same directory at earlier times.
    pub older: &'a [&'a Image],
    /// Another directory, of the same shape and of others.
    pub foreign: &'a [&'a Image],
}

type Mutation = fn(&mut Image, &Among<'_>, &mut Rng) -> String;

/// Each kind by its name.
pub const KINDS: &[(&str, Mutation)] = &[
    ("one bit flipped", flip),
    ("some bytes overwritten", overwrite),
    ("cut short", truncate),
    ("zeros behind the end", extend_by_zeros),
    ("garbage behind the end", extend_by_garbage),
    ("own bytes behind the end", extend_by_itself),
    ("two files swapped", swap),
    ("a file missing", remove),
    ("a foreign file added", add),
    ("a file of another directory", replace_by_foreign),
    ("a file of an older time", replace_by_older),
    ("log or base of another directory", layer_of_foreign),
    ("log or base of an older time", layer_of_older),
    ("a length that is too large", bomb),
    ("a range of zeros", zero),
    ("two of these at once", two),
];

/// A file; those that RocksDB does not read for its data less often.
fn some_file(image: &Image, rng: &mut Rng) -> String {
    let idle = |name: &str| name.contains("OPTIONS") || name.contains("IDENTITY");
    let names: Vec<&String> = image.keys().collect();
    let mut name = *rng.pick(&names);
    for _ in 0..4 {
        if idle(name) || image[name].is_empty() {
            name = *rng.pick(&names);
        }
    }
    name.clone()
}

/// A place in a file: at its head, at its end, anywhere.
fn place(length: usize, rng: &mut Rng) -> usize {
    match rng.below(8) {
        0..3 => rng.below(length.min(128)),
        3 => length - 1 - rng.below(length.min(64)),
        _ => rng.below(length),
    }
}

fn with_file(
    image: &mut Image,
    rng: &mut Rng,
    change: impl FnOnce(&mut Vec<u8>, &mut Rng) -> String,
) -> String {
    let name = some_file(image, rng);
    let bytes = image.get_mut(&name).unwrap();
    if bytes.is_empty() {
        bytes.push(rng.next() as u8);
        return format!("{name}: one byte");
    }
    let what = change(bytes, rng);
    format!("{name}: {what}")
}

fn flip(image: &mut Image, _: &Among<'_>, rng: &mut Rng) -> String {
    with_file(image, rng, |bytes, rng| {
        let (at, bit) = (place(bytes.len(), rng), rng.below(8));
        bytes[at] ^= 1 << bit;
        format!("bit {bit} of byte {at}")
    })
}

fn overwrite(image: &mut Image, _: &Among<'_>, rng: &mut Rng) -> String {
    with_file(image, rng, |bytes, rng| {
        let at = place(bytes.len(), rng);
        let length = (1 + rng.below(40)).min(bytes.len() - at);
        bytes[at..at + length].copy_from_slice(&rng.bytes(length));
        format!("{length} bytes at {at}")
    })
}

fn truncate(image: &mut Image, _: &Among<'_>, rng: &mut Rng) -> String {
    with_file(image, rng, |bytes, rng| {
        let length = place(bytes.len(), rng);
        bytes.truncate(length);
        format!("cut to {length}")
    })
}

fn extend_by_zeros(image: &mut Image, _: &Among<'_>, rng: &mut Rng) -> String {
    with_file(image, rng, |bytes, rng| {
        let length = *rng.pick(&[1, 7, 8, 40, 56, 100, 4096, 40_000]);
        bytes.resize(bytes.len() + length, 0);
        format!("{length} zeros")
    })
}

fn extend_by_garbage(image: &mut Image, _: &Among<'_>, rng: &mut Rng) -> String {
    with_file(image, rng, |bytes, rng| {
        let length = 1 + rng.below(300);
        bytes.extend(rng.bytes(length));
        format!("{length} bytes of garbage")
    })
}

fn extend_by_itself(image: &mut Image, _: &Among<'_>, rng: &mut Rng) -> String {
    with_file(image, rng, |bytes, rng| {
        let from = if rng.below(2) == 0 { 0 } else { rng.below(bytes.len()) };
        bytes.extend_from_within(from..);
        format!("all from {from} once more")
    })
}

fn swap(image: &mut Image, _: &Among<'_>, rng: &mut Rng) -> String {
    let (one, two) = (some_file(image, rng), some_file(image, rng));
    let (first, second) = (image[&one].clone(), image[&two].clone());
    image.insert(one.clone(), second);
    image.insert(two.clone(), first);
    format!("{one} and {two}")
}

fn remove(image: &mut Image, _: &Among<'_>, rng: &mut Rng) -> String {
    let name = some_file(image, rng);
    image.remove(&name);
    name
}

/// A name that is not taken, of a kind that the directory knows, or not.
fn new_name(image: &Image, rng: &mut Rng) -> String {
    let (high, low) = (rng.below(6), rng.below(80));
    let segment = format!("log/{high:016x}-{low:016x}.log");
    let number = rng.below(60);
    let mut names = vec![segment, "log/notes.txt".into(), "log/0000000000000009-1.log".into()];
    let taken: Vec<&String> = image.keys().collect();
    names.push(format!("{}.tmp", rng.pick(&taken)));
    if image.contains_key("db/CURRENT") {
        let kinds = ["sst", "log", "dbtmp", "blob"];
        names.extend(kinds.map(|kind| format!("db/{number:06}.{kind}")));
        names.push(format!("db/MANIFEST-{number:06}"));
    } else {
        names.push("base/base.tmp".into());
    }
    rng.pick(&names).clone()
}

fn add(image: &mut Image, among: &Among<'_>, rng: &mut Rng) -> String {
    let name = new_name(image, rng);
    let (from, content) = match rng.below(5) {
        0 => ("garbage", rng.bytes(200)),
        1 => ("nothing", Vec::new()),
        2 => ("its own", image[&some_file(image, rng)].clone()),
        3 => ("an older file", some_content(rng.pick::<&Image>(among.older), rng)),
        _ => ("a foreign file", some_content(rng.pick::<&Image>(among.foreign), rng)),
    };
    image.entry(name.clone()).or_insert(content);
    // A segment of the other directory under the name that it has there.
    if rng.below(3) == 0 {
        let other = rng.pick(among.foreign);
        let name = some_file(other, rng);
        image.entry(name.clone()).or_insert_with(|| other[&name].clone());
        return format!("{name} as it is elsewhere");
    }
    format!("{name} with {from}")
}

fn some_content(image: &Image, rng: &mut Rng) -> Vec<u8> {
    image[&some_file(image, rng)].clone()
}

/// What a file is: its folder, and its name without numbers.
fn role(name: &str) -> String {
    name.chars().filter(|c| !c.is_ascii_hexdigit() || c.is_ascii_uppercase()).collect()
}

/// Takes a file's content from another directory: of the same name, or of the same kind.
fn replace(image: &mut Image, from: &[&Image], rng: &mut Rng) -> String {
    let name = some_file(image, rng);
    let other = *rng.pick(from);
    let alike: Vec<&String> = other.keys().filter(|key| role(key) == role(&name)).collect();
    let source = match other.get_key_value(&name) {
        Some((same, _)) if rng.below(4) > 0 => same,
        _ if alike.is_empty() => return format!("{name}: there is no other"),
        _ => rng.pick(&alike),
    };
    let content = other[source].clone();
    // With its own name, or under the one that is there.
    if *source != name && rng.below(2) == 0 {
        image.remove(&name);
        image.insert(source.clone(), content);
        return format!("{name} gone, {source} in its place");
    }
    image.insert(name.clone(), content);
    format!("{name} is {source}")
}

fn replace_by_foreign(image: &mut Image, among: &Among<'_>, rng: &mut Rng) -> String {
    replace(image, among.foreign, rng)
}

fn replace_by_older(image: &mut Image, among: &Among<'_>, rng: &mut Rng) -> String {
    replace(image, among.older, rng)
}

/// The whole log, the whole base, or what RocksDB calls its current version, from elsewhere.
fn layer(image: &mut Image, from: &[&Image], rng: &mut Rng) -> String {
    let other = *rng.pick(from);
    let current = ["db/CURRENT", "db/MANIFEST"];
    let mut parts: Vec<&[&str]> = vec![&["log/"], &["base/", "db/"]];
    if image.contains_key("db/CURRENT") {
        parts.push(&current);
    }
    if image.contains_key("MANIFEST") {
        parts.push(&["MANIFEST"]);
    }
    let part = *rng.pick(&parts);
    // What was there may be left beside it.
    let keep = rng.below(3) == 0;
    let chosen = |name: &String| part.iter().any(|start| name.starts_with(start));
    image.retain(|name, _| keep || !chosen(name));
    let files = other.iter().filter(|(name, _)| chosen(name));
    image.extend(files.map(|(name, bytes)| (name.clone(), bytes.clone())));
    format!("{part:?}, its own kept: {keep}")
}

fn layer_of_foreign(image: &mut Image, among: &Among<'_>, rng: &mut Rng) -> String {
    layer(image, among.foreign, rng)
}

fn layer_of_older(image: &mut Image, among: &Among<'_>, rng: &mut Rng) -> String {
    layer(image, among.older, rng)
}

fn bomb(image: &mut Image, _: &Among<'_>, rng: &mut Rng) -> String {
    with_file(image, rng, |bytes, rng| {
        if bytes.starts_with(b"HWLOG002") {
            forge::bomb_in_log(bytes, rng);
        } else if forge::is_manifest(bytes) {
            forge::bomb_in_manifest(bytes, rng);
        } else if bytes.starts_with(b"HWR1") {
            forge::bomb_in_base(bytes, rng);
        } else {
            // Numbers of variable length: each byte says that there are more.
            let at = place(bytes.len(), rng);
            let end = (at + 1 + rng.below(9)).min(bytes.len());
            bytes[at..end].fill(0xff);
            return format!("large numbers at {at}");
        }
        "a forged length".into()
    })
}

fn zero(image: &mut Image, _: &Among<'_>, rng: &mut Rng) -> String {
    with_file(image, rng, |bytes, rng| {
        let (mut at, mut length) = (place(bytes.len(), rng), 1 + rng.below(600));
        if rng.below(3) == 0 {
            (at, length) = (at / 512 * 512, 512);
        }
        let end = (at + length).min(bytes.len());
        bytes[at..end].fill(0);
        format!("{} zeros at {at}", end - at)
    })
}

fn two(image: &mut Image, among: &Among<'_>, rng: &mut Rng) -> String {
    let others = &KINDS[..KINDS.len() - 1];
    let (one, first) = rng.pick(others);
    // Log and base both of another directory are that directory, and nothing is wrong. Lengths
    // are found in files that are whole.
    let fit = |kind: &str| !kind.contains("another") && !kind.contains("length");
    let own: Vec<_> = others.iter().filter(|kind| fit(kind.0)).collect();
    let (other, second) = *rng.pick(&own);
    let done = first(image, among, rng);
    // Nothing is left to damage where the only file has gone.
    if image.is_empty() {
        return format!("{one}: {done}");
    }
    format!("{one}: {done}; {other}: {}", second(image, among, rng))
}
