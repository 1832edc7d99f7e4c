//! Nexmark: queries over an auction site, as flows, and each once more as a recomputation.
//!
//! Where the original says processing time (q12), this says event time, so that there is one right
//! answer. Queries that would be updated for ever (q4, q18, q19) tell the newest row of a key
//! whenever it changed, and the last one counts; q16 and q17 tell it at the end of the day.

mod data;
mod joins;
mod model;
mod results;

use highwater::Either;
use highwater::prelude::*;

use data::{Auction, Bid, Event, Person, millis as time, number_of};
pub(crate) use data::{EventFile, make};
use joins::{BidsOfAuctions, Sellers, Winners};
pub(crate) use model::Emit;
use model::rank;
use results::Upserts;
pub(crate) use results::{Results, mix};

/// As in other implementations; the events come in order.
const BOUND: Span = seconds(4);
const NONE_LATE: &str = "events come in order";

/// A query.
pub(crate) struct Query {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) build: fn(&Flow, EventFile) -> Box<dyn Results>,
    pub(crate) model: fn(&EventFile, Emit<'_>),
}

macro_rules! queries {
    ($($name:ident: $about:literal,)*) => {
        pub(crate) const QUERIES: &[Query] = &[$(Query {
            name: stringify!($name),
            about: $about,
            build: |flow, file| Box::new($name(flow, file)),
            model: model::$name,
        }),*];
    };
}

queries! {
    q0: "pass through",
    q1: "prices in another currency",
    q2: "bids for some auctions",
    q3: "who sells in three states, a join without a window",
    q4: "average winning price of a category, so far",
    q5: "auctions with most bids, hopping 10 s every 2 s",
    q7: "highest bids, tumbling 10 s",
    q8: "new persons who sell, a join in tumbling 10 s",
    q9: "winning bids",
    q11: "bids of a bidder in a session, gap of 10 s",
    q12: "bids of a bidder, tumbling 10 s",
    q16: "statistics of channels, with distinct counts, tumbling days",
    q17: "statistics of auctions, tumbling days",
    q18: "last bid of each bidder and auction, so far",
    q19: "ten highest bids of each auction, so far",
    q20: "bids with their auctions, a join without a window",
}

fn bid(event: Event) -> Option<Bid> {
    match event {
        Event::Bid(bid) => Some(bid),
        _ => None,
    }
}

fn auction_or_bid(event: Event) -> Option<Either<Auction, Bid>> {
    match event {
        Event::Auction(auction) => Some(Either::Left(*auction)),
        Event::Bid(bid) => Some(Either::Right(bid)),
        Event::Person(_) => None,
    }
}

fn person_or_auction(event: Event) -> Option<Either<Person, Auction>> {
    match event {
        Event::Person(person) => Some(Either::Left(*person)),
        Event::Auction(auction) => Some(Either::Right(*auction)),
        Event::Bid(_) => None,
    }
}

/// Bids without time.
fn raw_bids(flow: &Flow, file: EventFile) -> Stream<Bid, Raw> {
    flow.source("events", file).filter_map(bid)
}

trait Dated: Data {
    fn date(&self) -> EventTime;
}

macro_rules! dated {
    ($($name:ident)*) => {
        $(impl Dated for $name {
            fn date(&self) -> EventTime {
                self.time
            }
        })*
    };
}

dated!(Person Auction Bid);

/// The two kinds of events that a query joins, each as a stream.
fn two_kinds<A: Dated, B: Dated>(
    flow: &Flow,
    file: EventFile,
    kind: impl Fn(Event) -> Option<Either<A, B>> + Send + Sync + 'static,
) -> (Stream<A, Timed>, Stream<B, Timed>) {
    let date = |row: &Either<A, B>| match row {
        Either::Left(row) => row.date(),
        Either::Right(row) => row.date(),
    };
    let rows = flow.source("events", file).filter_map(kind);
    rows.event_time(date, Disorder::at_most(BOUND)).stream().partition_map(|row| row)
}

fn bids(flow: &Flow, file: EventFile) -> Stream<Bid, Timed> {
    raw_bids(flow, file).event_time(|bid| bid.time, Disorder::at_most(BOUND)).stream()
}

fn q0(flow: &Flow, file: EventFile) -> impl Results + use<> {
    raw_bids(flow, file).map(|b| [b.auction, b.bidder, b.price, time(b.time)])
}

fn q1(flow: &Flow, file: EventFile) -> impl Results + use<> {
    raw_bids(flow, file).map(|b| [b.auction, b.bidder, b.price * 908 / 1000, time(b.time)])
}

fn q2(flow: &Flow, file: EventFile) -> impl Results + use<> {
    raw_bids(flow, file).filter(|b| b.auction % 123 == 0).map(|b| [b.auction, b.price])
}

fn q3(flow: &Flow, file: EventFile) -> impl Results + use<> {
    let (persons, auctions) = two_kinds(flow, file, |event| {
        person_or_auction(event).filter(|row| match row {
            Either::Left(person) => ["or", "id", "ca"].contains(&&*person.state),
            Either::Right(auction) => auction.category == 10,
        })
    });
    persons
        .key_by(|person| &person.id)
        .connect(&auctions.key_by(|auction| &auction.seller))
        .process2_on_arrival("sellers", Sellers)
        .unbounded()
        .drop_late(NONE_LATE)
}

fn winners(flow: &Flow, file: EventFile) -> Stream<(Auction, Bid), Timed> {
    let (auctions, bids) = two_kinds(flow, file, auction_or_bid);
    auctions
        .key_by(|auction| &auction.id)
        .connect(&bids.key_by(|bid| &bid.auction))
        .process2("winners", Winners)
        .unbounded()
        .drop_late(NONE_LATE)
}

/// A row in one.
fn as_it_is<const N: usize>(row: &[u64; N], emit: Emit<'_>) {
    emit(row);
}

fn q4(flow: &Flow, file: EventFile) -> impl Results + use<> {
    let average = winners(flow, file)
        .key_by(|(auction, _)| &auction.category)
        .running("average", (Count, Sum::of(|(_, bid): &(Auction, Bid)| bid.price)))
        .unbounded();
    let stream = average.map(|(category, (count, sum))| [category, count, sum as u64 / count]);
    Upserts { stream, rows: as_it_is }
}

/// The rows whose value is the greatest, all of them.
fn greatest<T: Data + Sync + Stored>(
    value: impl Fn(&T) -> u64 + Copy + Send + Sync + 'static,
) -> impl Aggregate<T, Output = Vec<T>> {
    Fold::new(
        Vec::new(),
        move |best: &mut Vec<T>, row: &T| {
            let most = best.first().map_or(0, value);
            if value(row) > most {
                best.clear();
            }
            if value(row) >= most {
                best.push(row.clone());
            }
        },
        move |best: &mut Vec<T>, others: Vec<T>| {
            let (most, of_others) =
                (best.first().map_or(0, value), others.first().map_or(0, value));
            if of_others > most {
                *best = others;
            } else if of_others == most {
                best.extend(others);
            }
        },
    )
}

fn q5(flow: &Flow, file: EventFile) -> impl Results + use<> {
    let counts = bids(flow, file)
        .key_by(|bid| &bid.auction)
        .window("counts", Hopping::of(seconds(10), seconds(2)))
        .aggregate(Count)
        .drop_late(NONE_LATE)
        .map(|row| (time(row.window.start), row.key, row.value));
    // A result has the last time of its window, so each window of two seconds has those of one.
    counts
        .key_with(|_| 0u8)
        .window("hot", Tumbling::of(seconds(2)))
        .aggregate(greatest(|row: &(u64, u64, u64)| row.2))
        .drop_late(NONE_LATE)
        .flat_map(|row| {
            row.value.into_iter().map(|(start, auction, count)| [start, auction, count])
        })
}

fn q7(flow: &Flow, file: EventFile) -> impl Results + use<> {
    bids(flow, file)
        .key_with(|_| 0u8)
        .window("highest", Tumbling::of(seconds(10)))
        .aggregate(greatest(|bid: &Bid| bid.price))
        .drop_late(NONE_LATE)
        .flat_map(|row| {
            let start = time(row.window.start);
            row.value.into_iter().map(move |bid| [start, bid.auction, bid.bidder, bid.price])
        })
}

fn q8(flow: &Flow, file: EventFile) -> impl Results + use<> {
    let (persons, auctions) = two_kinds(flow, file, person_or_auction);
    persons
        .key_by(|person| &person.id)
        .join(&auctions.key_by(|auction| &auction.seller))
        .cogroup("new sellers", Tumbling::of(seconds(10)), |persons, auctions| {
            let sells = !auctions.is_empty();
            persons.first().filter(|_| sells).map(|person| number_of(&person.name))
        })
        .drop_late(NONE_LATE)
        .map(|row| [row.key, row.value, time(row.window.start)])
}

fn q9(flow: &Flow, file: EventFile) -> impl Results + use<> {
    winners(flow, file).map(|(auction, bid)| {
        let Auction { id, seller, category, .. } = auction;
        [id, seller, category, bid.bidder, bid.price, time(bid.time)]
    })
}

fn q11(flow: &Flow, file: EventFile) -> impl Results + use<> {
    bids(flow, file)
        .key_by(|bid| &bid.bidder)
        .window("sessions", Session::with_gap(seconds(10)))
        .aggregate(Count)
        .drop_late(NONE_LATE)
        .map(|row| [row.key, time(row.window.start), row.value])
}

fn q12(flow: &Flow, file: EventFile) -> impl Results + use<> {
    bids(flow, file)
        .key_by(|bid| &bid.bidder)
        .window("counts", Tumbling::of(seconds(10)))
        .aggregate(Count)
        .drop_late(NONE_LATE)
        .map(|row| [row.key, time(row.window.start), row.value])
}

/// How many different values, of all bids and of each of three ranks of price. A value is kept
/// once, with a bit for each count that has it; four sets would keep it twice or more.
#[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
struct Distinct {
    seen: hashbrown::HashMap<u64, u8>,
    counts: [u64; 4],
}

impl Distinct {
    fn add(&mut self, value: u64, bits: u8) {
        let seen = self.seen.entry(value).or_default();
        let new = bits & !*seen;
        if new != 0 {
            *seen |= new;
            (0..4).for_each(|n| self.counts[n] += u64::from(new >> n & 1));
        }
    }

    fn merge(&mut self, mut from: Distinct) {
        from.seen.drain().for_each(|(value, bits)| self.add(value, bits));
    }
}

/// Counts, bidders and auctions: of all bids, and by the rank of their price.
#[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
struct Channel {
    counts: [u64; 4],
    bidders: Distinct,
    auctions: Distinct,
}

fn q16(flow: &Flow, file: EventFile) -> impl Results + use<> {
    let add = |channel: &mut Channel, bid: &Bid| {
        let rank = rank(bid.price) + 1;
        channel.counts[0] += 1;
        channel.counts[rank] += 1;
        let bits = 1 | 1 << rank;
        channel.bidders.add(bid.bidder, bits);
        channel.auctions.add(bid.auction, bits);
    };
    let merge = |into: &mut Channel, from: Channel| {
        (0..4).for_each(|n| into.counts[n] += from.counts[n]);
        into.bidders.merge(from.bidders);
        into.auctions.merge(from.auctions);
    };
    bids(flow, file)
        .key_by(|bid| &bid.channel)
        .window("channels", Tumbling::of(days(1)))
        .aggregate(Fold::new(Channel::default(), add, merge))
        .drop_late(NONE_LATE)
        .map(|row| {
            let Channel { counts: c, bidders, auctions } = row.value;
            let (b, a) = (bidders.counts, auctions.counts);
            let counts = [row.key, c[0], c[1], c[2], c[3]];
            let [k, all, low, middle, high] = counts;
            [k, all, low, middle, high, b[0], b[1], b[2], b[3], a[0], a[1], a[2], a[3]]
        })
}

fn q17(flow: &Flow, file: EventFile) -> impl Results + use<> {
    let add = |state: &mut [u64; 6], bid: &Bid| {
        state[rank(bid.price)] += 1;
        state[3] = state[3].min(bid.price);
        state[4] = state[4].max(bid.price);
        state[5] += bid.price;
    };
    let merge = |into: &mut [u64; 6], from: [u64; 6]| {
        [0, 1, 2, 5].into_iter().for_each(|n| into[n] += from[n]);
        into[3] = into[3].min(from[3]);
        into[4] = into[4].max(from[4]);
    };
    bids(flow, file)
        .key_by(|bid| &bid.auction)
        .window("auctions", Tumbling::of(days(1)))
        .aggregate(Fold::new([0, 0, 0, u64::MAX, 0, 0], add, merge))
        .drop_late(NONE_LATE)
        .map(|row| {
            let [low, middle, high, least, most, sum] = row.value;
            [row.key, low, middle, high, least, most, sum]
        })
}

fn q18(flow: &Flow, file: EventFile) -> impl Results + use<> {
    let last = bids(flow, file)
        .map(|bid| [bid.bidder << 32 | bid.auction, time(bid.time), bid.price])
        .key_by(|row| &row[0])
        .running("last", Last)
        .unbounded();
    let stream = last.map(|(_, last)| last.unwrap_or_default());
    Upserts { stream, rows: as_it_is }
}

/// How many bids q19 tells of an auction.
const TOP: usize = 10;

fn q19(flow: &Flow, file: EventFile) -> impl Results + use<> {
    let top = bids(flow, file)
        .map(|bid| (bid.auction, bid.price))
        .key_by(|bid| &bid.0)
        .running("top", (Count, TopN::of(TOP, |bid: &(u64, u64)| bid.1)))
        .unbounded();
    let stream = top.map(|(auction, (count, top))| {
        let mut row = [0; 2 + TOP];
        (row[0], row[1]) = (auction, count);
        row[2..].iter_mut().zip(top).for_each(|(price, bid)| *price = bid.1);
        row
    });
    let rows = |row: &[u64; 2 + TOP], emit: Emit<'_>| {
        let prices = row[2..].iter().take(row[1] as usize);
        prices.for_each(|price| emit(&[row[0], *price]));
    };
    Upserts { stream, rows }
}

fn q20(flow: &Flow, file: EventFile) -> impl Results + use<> {
    let (auctions, bids) = two_kinds(flow, file, auction_or_bid);
    auctions
        .key_by(|auction| &auction.id)
        .connect(&bids.key_by(|bid| &bid.auction))
        .process2_on_arrival("bids", BidsOfAuctions { category: 10 })
        .unbounded()
        .drop_late(NONE_LATE)
}
