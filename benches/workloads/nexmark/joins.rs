//! What the queries remember of an auction or a person until its partners have come.

use highwater::{Process2, ProcessCx, Timer, millis};
use serde::{Deserialize, Serialize};

use super::data::{self, Auction, Bid, Person, number_of};

/// Finds the best bid of each auction: the highest, of those the earliest. It is told when the
/// auction has expired.
pub(crate) struct Winners;

#[derive(Serialize, Deserialize)]
pub(crate) enum Sale {
    /// Bids that came before their auction, which may stand behind them at the same time.
    Early(Vec<Bid>),
    Open(Auction, Option<Bid>),
    Over,
}

fn place(auction: &Auction, best: &mut Option<Bid>, bid: Bid) {
    let fits = auction.time <= bid.time && bid.time <= auction.expires;
    if fits && best.is_none_or(|best| bid.price > best.price) {
        *best = Some(bid);
    }
}

type Won = (Auction, Bid);

impl Process2<u64, Auction, Bid> for Winners {
    type State = Sale;
    type Output = Won;

    fn left(&self, cx: &mut ProcessCx<'_, Sale, Won>, _: &u64, auction: Auction) {
        let mut best = None;
        if let Some(Sale::Early(bids)) = cx.state().take() {
            bids.into_iter().for_each(|bid| place(&auction, &mut best, bid));
        }
        *cx.state() = Some(Sale::Open(auction, best));
        // A bid at the very end still counts, and timers come first.
        cx.set_timer("expires", auction.expires + millis(1));
    }

    fn right(&self, cx: &mut ProcessCx<'_, Sale, Won>, _: &u64, bid: Bid) {
        match cx.state() {
            Some(Sale::Open(auction, best)) => place(auction, best, bid),
            // Those of an earlier time can have no part in it.
            Some(Sale::Early(bids)) => {
                bids.retain(|early| early.time == bid.time);
                bids.push(bid);
            }
            Some(Sale::Over) => {}
            nothing @ None => *nothing = Some(Sale::Early(vec![bid])),
        }
    }

    fn timer(&self, cx: &mut ProcessCx<'_, Sale, Won>, _: &u64, _: &Timer) {
        if let Some(Sale::Open(auction, Some(best))) = cx.state().replace(Sale::Over) {
            cx.emit((auction, best));
        }
    }
}

/// Persons and what they sell, in whichever order they come.
pub(crate) struct Sellers;

#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Seller {
    /// Name, city and state.
    known: Option<[u64; 3]>,
    waiting: Vec<u64>,
}

fn sells([name, city, state]: [u64; 3], auction: u64) -> [u64; 4] {
    [name, city, state, auction]
}

impl Process2<u64, Person, Auction> for Sellers {
    type State = Seller;
    type Output = [u64; 4];

    fn left(&self, cx: &mut ProcessCx<'_, Seller, [u64; 4]>, _: &u64, person: Person) {
        let texts = [&person.name, &person.city, &person.state].map(|text| number_of(text));
        let seller = cx.state().get_or_insert_default();
        seller.known = Some(texts);
        let waiting = std::mem::take(&mut seller.waiting);
        waiting.into_iter().for_each(|auction| cx.emit(sells(texts, auction)));
    }

    fn right(&self, cx: &mut ProcessCx<'_, Seller, [u64; 4]>, _: &u64, auction: Auction) {
        let seller = cx.state().get_or_insert_default();
        match seller.known {
            Some(texts) => cx.emit(sells(texts, auction.id)),
            None => seller.waiting.push(auction.id),
        }
    }
}

/// Auctions of one category and all their bids, in whichever order they come.
pub(crate) struct BidsOfAuctions {
    pub(crate) category: u64,
}

#[derive(Serialize, Deserialize)]
pub(crate) enum Offers {
    /// Bids that came before their auction.
    Early(Vec<Bid>),
    /// The seller.
    Wanted(u64),
    /// Of another category: its bids need not be kept.
    Unwanted,
}

fn offer(auction: u64, seller: u64, bid: &Bid) -> [u64; 5] {
    [auction, seller, bid.bidder, bid.price, data::millis(bid.time)]
}

impl Process2<u64, Auction, Bid> for BidsOfAuctions {
    type State = Offers;
    type Output = [u64; 5];

    fn left(&self, cx: &mut ProcessCx<'_, Offers, [u64; 5]>, id: &u64, auction: Auction) {
        if auction.category != self.category {
            *cx.state() = Some(Offers::Unwanted);
            return;
        }
        if let Some(Offers::Early(bids)) = cx.state().replace(Offers::Wanted(auction.seller)) {
            bids.iter().for_each(|bid| cx.emit(offer(*id, auction.seller, bid)));
        }
    }

    fn right(&self, cx: &mut ProcessCx<'_, Offers, [u64; 5]>, id: &u64, bid: Bid) {
        match cx.state() {
            Some(Offers::Wanted(seller)) => {
                let offer = offer(*id, *seller, &bid);
                cx.emit(offer);
            }
            Some(Offers::Unwanted) => {}
            Some(Offers::Early(bids)) => bids.push(bid),
            nothing @ None => *nothing = Some(Offers::Early(vec![bid])),
        }
    }
}
