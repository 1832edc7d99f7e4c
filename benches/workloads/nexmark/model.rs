//! Every query once more, slow and obvious: a recomputation over all events, after the fact.

use std::collections::BTreeMap;

use hashbrown::{HashMap, HashSet};

use super::data::{Auction, Bid, Event, EventFile, Person, millis, number_of};

/// Takes the rows.
pub(crate) type Emit<'a> = &'a mut dyn FnMut(&[u64]);

fn bids(file: &EventFile) -> impl Iterator<Item = Bid> {
    file.events().filter_map(|event| match event {
        Event::Bid(bid) => Some(bid),
        _ => None,
    })
}

fn auctions(file: &EventFile) -> impl Iterator<Item = Auction> {
    file.events().filter_map(|event| match event {
        Event::Auction(auction) => Some(*auction),
        _ => None,
    })
}

fn persons(file: &EventFile) -> impl Iterator<Item = Person> {
    file.events().filter_map(|event| match event {
        Event::Person(person) => Some(*person),
        _ => None,
    })
}

/// The start of the window of ten seconds.
fn ten_seconds(time: highwater::EventTime) -> u64 {
    millis(time) / 10_000 * 10_000
}

pub(crate) fn q0(file: &EventFile, emit: Emit<'_>) {
    bids(file).for_each(|b| emit(&[b.auction, b.bidder, b.price, millis(b.time)]));
}

pub(crate) fn q1(file: &EventFile, emit: Emit<'_>) {
    bids(file).for_each(|b| emit(&[b.auction, b.bidder, b.price * 908 / 1000, millis(b.time)]));
}

pub(crate) fn q2(file: &EventFile, emit: Emit<'_>) {
    bids(file).filter(|b| b.auction % 123 == 0).for_each(|b| emit(&[b.auction, b.price]));
}

pub(crate) fn q3(file: &EventFile, emit: Emit<'_>) {
    let local = |person: &Person| ["or", "id", "ca"].contains(&&*person.state);
    let persons: HashMap<u64, Person> =
        persons(file).filter(local).map(|person| (person.id, person)).collect();
    for auction in auctions(file).filter(|auction| auction.category == 10) {
        if let Some(person) = persons.get(&auction.seller) {
            let texts = [&person.name, &person.city, &person.state].map(|text| number_of(text));
            emit(&[texts[0], texts[1], texts[2], auction.id]);
        }
    }
}

/// Each auction with its best bid: the highest one, and of those the earliest.
fn winners(file: &EventFile) -> Vec<(Auction, Bid)> {
    let auctions: HashMap<u64, Auction> = auctions(file).map(|a| (a.id, a)).collect();
    let mut best: HashMap<u64, Bid> = HashMap::new();
    for bid in bids(file) {
        let Some(auction) = auctions.get(&bid.auction) else { continue };
        if auction.time <= bid.time && bid.time <= auction.expires {
            let best = best.entry(bid.auction).or_insert(bid);
            if bid.price > best.price {
                *best = bid;
            }
        }
    }
    best.into_iter().map(|(id, bid)| (auctions[&id], bid)).collect()
}

pub(crate) fn q4(file: &EventFile, emit: Emit<'_>) {
    let mut categories: HashMap<u64, (u64, u64)> = HashMap::new();
    for (auction, bid) in winners(file) {
        let category = categories.entry(auction.category).or_default();
        category.0 += 1;
        category.1 += bid.price;
    }
    categories.iter().for_each(|(id, (count, sum))| emit(&[*id, *count, sum / count]));
}

/// The greatest of each window, and all that are equal to it.
fn greatest<T: Copy>(
    items: impl Iterator<Item = (u64, u64, T)>,
    mut emit: impl FnMut(u64, u64, T),
) {
    let mut windows: BTreeMap<u64, (u64, Vec<T>)> = BTreeMap::new();
    for (start, value, item) in items {
        let (most, list) = windows.entry(start).or_default();
        if value > *most {
            (*most, *list) = (value, Vec::new());
        }
        if value == *most {
            list.push(item);
        }
    }
    for (start, (most, list)) in windows {
        list.into_iter().for_each(|item| emit(start, most, item));
    }
}

pub(crate) fn q5(file: &EventFile, emit: Emit<'_>) {
    let mut counts: HashMap<(u64, u64), u64> = HashMap::new();
    for bid in bids(file) {
        let last = millis(bid.time) / 2000 * 2000;
        for back in 0..5 {
            *counts.entry((last - back * 2000, bid.auction)).or_default() += 1;
        }
    }
    let counts = counts.into_iter().map(|((start, auction), count)| (start, count, auction));
    greatest(counts, |start, count, auction| emit(&[start, auction, count]));
}

pub(crate) fn q7(file: &EventFile, emit: Emit<'_>) {
    let bids = bids(file).map(|bid| (ten_seconds(bid.time), bid.price, bid));
    greatest(bids, |start, price, bid| emit(&[start, bid.auction, bid.bidder, price]));
}

pub(crate) fn q8(file: &EventFile, emit: Emit<'_>) {
    let sellers: HashSet<(u64, u64)> =
        auctions(file).map(|a| (a.seller, ten_seconds(a.time))).collect();
    for person in persons(file) {
        let start = ten_seconds(person.time);
        if sellers.contains(&(person.id, start)) {
            emit(&[person.id, number_of(&person.name), start]);
        }
    }
}

pub(crate) fn q9(file: &EventFile, emit: Emit<'_>) {
    for (auction, bid) in winners(file) {
        let (id, seller, category) = (auction.id, auction.seller, auction.category);
        emit(&[id, seller, category, bid.bidder, bid.price, millis(bid.time)]);
    }
}

pub(crate) fn q11(file: &EventFile, emit: Emit<'_>) {
    let mut times: HashMap<u64, Vec<u64>> = HashMap::new();
    bids(file).for_each(|bid| times.entry(bid.bidder).or_default().push(millis(bid.time)));
    for (bidder, mut times) in times {
        times.sort_unstable();
        for session in times.chunk_by(|earlier, later| later - earlier < 10_000) {
            emit(&[bidder, session[0], session.len() as u64]);
        }
    }
}

pub(crate) fn q12(file: &EventFile, emit: Emit<'_>) {
    let mut counts: HashMap<(u64, u64), u64> = HashMap::new();
    bids(file).for_each(|b| *counts.entry((b.bidder, ten_seconds(b.time))).or_default() += 1);
    counts.iter().for_each(|((bidder, start), count)| emit(&[*bidder, *start, *count]));
}

/// 0 below 10,000, 1 below 1,000,000, and 2.
pub(crate) fn rank(price: u64) -> usize {
    usize::from(price >= 10_000) + usize::from(price >= 1_000_000)
}

pub(crate) fn q16(file: &EventFile, emit: Emit<'_>) {
    let mut channels: HashMap<u64, Vec<Bid>> = HashMap::new();
    bids(file).for_each(|bid| channels.entry(bid.channel).or_default().push(bid));
    for (channel, bids) in channels {
        let of = |n: usize| bids.iter().filter(move |bid| n == 3 || rank(bid.price) == n);
        let counts = [3, 0, 1, 2].map(|n| of(n).count() as u64);
        let bidders = [3, 0, 1, 2].map(|n| of(n).map(|b| b.bidder).collect::<HashSet<_>>().len());
        let sold = [3, 0, 1, 2].map(|n| of(n).map(|b| b.auction).collect::<HashSet<_>>().len());
        let distinct = bidders.into_iter().chain(sold).map(|n| n as u64);
        emit(&[channel].into_iter().chain(counts).chain(distinct).collect::<Vec<_>>());
    }
}

pub(crate) fn q17(file: &EventFile, emit: Emit<'_>) {
    let mut auctions: HashMap<u64, Vec<u64>> = HashMap::new();
    bids(file).for_each(|bid| auctions.entry(bid.auction).or_default().push(bid.price));
    for (auction, prices) in auctions {
        let ranks = [0, 1, 2].map(|n| prices.iter().filter(|p| rank(**p) == n).count() as u64);
        let least = prices.iter().min().copied().unwrap_or_default();
        let most = prices.iter().max().copied().unwrap_or_default();
        emit(&[auction, ranks[0], ranks[1], ranks[2], least, most, prices.iter().sum()]);
    }
}

pub(crate) fn q18(file: &EventFile, emit: Emit<'_>) {
    let mut last: HashMap<(u64, u64), (u64, u64)> = HashMap::new();
    for bid in bids(file) {
        last.insert((bid.bidder, bid.auction), (millis(bid.time), bid.price));
    }
    for ((bidder, auction), (time, price)) in last {
        emit(&[bidder << 32 | auction, time, price]);
    }
}

pub(crate) fn q19(file: &EventFile, emit: Emit<'_>) {
    let mut auctions: HashMap<u64, Vec<u64>> = HashMap::new();
    bids(file).for_each(|bid| auctions.entry(bid.auction).or_default().push(bid.price));
    for (auction, mut prices) in auctions {
        prices.sort_unstable_by(|a, b| b.cmp(a));
        prices.iter().take(super::TOP).for_each(|price| emit(&[auction, *price]));
    }
}

pub(crate) fn q20(file: &EventFile, emit: Emit<'_>) {
    let auctions: HashMap<u64, Auction> =
        auctions(file).filter(|a| a.category == 10).map(|a| (a.id, a)).collect();
    for bid in bids(file) {
        if let Some(auction) = auctions.get(&bid.auction) {
            emit(&[auction.id, auction.seller, bid.bidder, bid.price, millis(bid.time)]);
        }
    }
}
