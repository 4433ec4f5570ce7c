//! `/v1/services`, `/v1/reals` and `/v1/pools`: lists that may be long, of which a reader may want a page: searched, sorted, from one row to another.
//!
//! What is known of a service without the control thread (its names, how many real servers it has) decides first. Counters and
//! health are asked for of all rows only where these are sorted or chosen by them; of each row a number is kept until the page is
//! known.

use super::answer::{JSON, error, no_answer};
use super::lists::{SLICE, Which};
use super::state::Api;
use super::stream::{Array, Reader, stream_at};
use crate::control::{Control, NoAnswer};
use crate::tables::Service;
use crate::view;
use axum::extract::{Query, State};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use utoipa::IntoParams;

/// How many rows there are on all pages.
const TOTAL: HeaderName = HeaderName::from_static("x-total-count");

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct WhichServices {
    /// Only this one: a name, or such as `tcp:192.0.2.80:80`.
    service: Option<String>,
    /// Only those with this text in their name, in such as `tcp:192.0.2.80:80`, or in a real server's address and port.
    search: Option<String>,
    /// Only those of which a real server gets no new connections, or that are not served by their available real servers.
    #[serde(default)]
    impaired: bool,
    /// `name`, `address`, `impaired`, `connections`, `connections_total`, `packets` or `bytes`; with `-` ahead: the other way round.
    sort: Option<String>,
    /// Without so many of the first ones.
    #[serde(default)]
    offset: usize,
    /// At most so many.
    limit: Option<usize>,
    /// Without what went through.
    #[serde(default)]
    brief: bool,
    /// Without the real servers, but with how many there are.
    #[serde(default)]
    summary: bool,
}

/// Which real servers, or local pairs towards real servers.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct WhichRows {
    /// Only those of this service: a name, or such as `tcp:192.0.2.80:80`.
    service: Option<String>,
    /// Only those with this text in their address and port, in their service's name, or in such as `tcp:192.0.2.80:80`.
    search: Option<String>,
    /// Only real servers that get no new connections, without fallback servers; only local pairs of which four fifths are in use, or of
    /// which none was found.
    #[serde(default)]
    impaired: bool,
    /// `name` and `address` of their services; real servers by `weight`, `connections`, `connections_total`, `packets` or `bytes`, local
    /// pairs by `pairs`, `used`, `closing`, `highest` or `exhausted`; with `-` ahead: the other way round.
    sort: Option<String>,
    /// Without so many of the first ones.
    #[serde(default)]
    offset: usize,
    /// At most so many.
    limit: Option<usize>,
}

pub(super) async fn services(
    State(api): State<Api>,
    reader: Reader,
    Query(which): Query<WhichServices>,
) -> Response {
    let wanted = WhichRows {
        service: which.service,
        search: which.search,
        impaired: which.impaired,
        sort: which.sort,
        offset: which.offset,
        limit: which.limit,
    };
    match (which.brief, which.summary) {
        (true, true) => {
            let why = "`brief` and `summary` are two kinds of rows: ask for one of them";
            error(StatusCode::BAD_REQUEST, why)
        }
        (true, false) => {
            page::<view::ServiceView, _>(api, reader, wanted, view::BriefServiceView::from).await
        }
        (false, true) => {
            page::<view::ServiceView, _>(api, reader, wanted, view::ServiceSummaryView::from).await
        }
        (false, false) => page(api, reader, wanted, |service: view::ServiceView| service).await,
    }
}

pub(super) async fn reals(
    State(api): State<Api>,
    reader: Reader,
    Query(wanted): Query<WhichRows>,
) -> Response {
    page(api, reader, wanted, |real: view::RealView| real).await
}

pub(super) async fn pools(
    State(api): State<Api>,
    reader: Reader,
    Query(wanted): Query<WhichRows>,
) -> Response {
    page(api, reader, wanted, |pairs: view::PoolView| pairs).await
}

/// By what rows are sorted.
enum Order<R: 'static> {
    Name,
    Address,
    Number(fn(&R) -> u64),
}

/// A number of a row, by its name.
type Number<R> = (&'static str, fn(&R) -> u64);

/// A row, as it is found and sorted.
trait Row: Sized + Send + 'static {
    /// What it may be sorted by beside the service's name and address.
    const NUMBERS: &'static [Number<Self>];

    /// Those that each service has, always in the same order.
    fn show(control: &Control, services: &[Arc<Service>]) -> Vec<Vec<Self>>;
    /// How many that is.
    fn count(service: &Service) -> usize;
    /// Which of them a search finds in a service, of which it finds neither name nor address.
    fn finds(service: &Service, search: &str) -> Vec<usize>;
    fn is_impaired(&self) -> bool;
}

impl Row for view::ServiceView {
    const NUMBERS: &'static [Number<Self>] = &[
        ("impaired", |it| {
            let is_served = it.availability.serving == "available";
            it.impaired_reals() as u64 + if is_served { 0 } else { 1 << 32 }
        }),
        ("connections", |it| it.traffic.connections()),
        ("connections_total", |it| it.traffic.connections_total),
        ("packets", |it| it.traffic.packets()),
        ("bytes", |it| it.traffic.bytes()),
    ];

    fn show(control: &Control, services: &[Arc<Service>]) -> Vec<Vec<Self>> {
        let shown = control.show_services(services).into_iter();
        shown.map(|service| vec![service]).collect()
    }

    fn count(_: &Service) -> usize {
        1
    }

    fn finds(service: &Service, search: &str) -> Vec<usize> {
        let has = found_reals(service, search).next().is_some();
        if has { vec![0] } else { Vec::new() }
    }

    fn is_impaired(&self) -> bool {
        view::ServiceView::is_impaired(self)
    }
}

impl Row for view::RealView {
    const NUMBERS: &'static [Number<Self>] = &[
        ("weight", |it| u64::from(it.member.weight)),
        ("connections", |it| it.member.traffic.connections()),
        ("connections_total", |it| {
            it.member.traffic.connections_total
        }),
        ("packets", |it| it.member.traffic.packets()),
        ("bytes", |it| it.member.traffic.bytes()),
    ];

    fn show(control: &Control, services: &[Arc<Service>]) -> Vec<Vec<Self>> {
        let shown = control.show_services(services).into_iter();
        shown
            .map(|service| service.into_reals().collect())
            .collect()
    }

    fn count(service: &Service) -> usize {
        service.servers().count()
    }

    fn finds(service: &Service, search: &str) -> Vec<usize> {
        found_reals(service, search).collect()
    }

    fn is_impaired(&self) -> bool {
        self.member.is_impaired()
    }
}

impl Row for view::PoolView {
    const NUMBERS: &'static [Number<Self>] = &[
        ("pairs", |it| it.all.pairs.into()),
        ("used", |it| it.all.used.into()),
        ("closing", |it| it.all.closing.into()),
        ("highest", |it| it.all.highest.into()),
        ("exhausted", |it| it.all.exhausted),
    ];

    fn show(control: &Control, services: &[Arc<Service>]) -> Vec<Vec<Self>> {
        let services = services.iter();
        services
            .map(|service| control.show_pools(service))
            .collect()
    }

    fn count(service: &Service) -> usize {
        match service.pool {
            Some(_) => service.servers().count(),
            None => 0,
        }
    }

    fn finds(service: &Service, search: &str) -> Vec<usize> {
        match service.pool {
            Some(_) => found_reals(service, search).collect(),
            None => Vec::new(),
        }
    }

    fn is_impaired(&self) -> bool {
        let all = &self.all;
        all.exhausted > 0 || u64::from(all.used) * 5 >= u64::from(all.pairs) * 4
    }
}

/// The places of the real servers that have the text in their address and port.
fn found_reals(service: &Service, search: &str) -> impl Iterator<Item = usize> {
    let all = service.servers().enumerate();
    all.filter_map(move |(n, (real, _))| {
        let text = SocketAddr::new(real.address, real.port).to_string();
        text.contains(search).then_some(n)
    })
}

/// Whether the text is in the service's name, or in such as `tcp:192.0.2.80:80`.
fn is_named(service: &Service, search: &str) -> bool {
    service.name.to_lowercase().contains(search) || service.key.to_string().contains(search)
}

/// The order of a name, and whether it is the other way round.
fn order<R: Row>(sort: &str) -> Result<(Order<R>, bool), String> {
    let (name, is_reversed) = match sort.strip_prefix('-') {
        Some(name) => (name, true),
        None => (sort, false),
    };
    let number = R::NUMBERS.iter().find(|(known, _)| *known == name);
    match (name, number) {
        ("name", _) => Ok((Order::Name, is_reversed)),
        ("address", _) => Ok((Order::Address, is_reversed)),
        (_, Some((_, number))) => Ok((Order::Number(*number), is_reversed)),
        (_, None) => {
            let numbers = R::NUMBERS.iter().map(|(known, _)| *known);
            let all: Vec<_> = ["name", "address"].into_iter().chain(numbers).collect();
            Err(format!(
                "nothing is sorted by {name:?}, but by: {}; with `-` ahead the other way round",
                all.join(", ")
            ))
        }
    }
}

/// Where a row is: its service's place in the list, and its own in the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    service: usize,
    row: usize,
}

/// One page of a list, each row as `write` has it.
async fn page<R: Row, T: Serialize + Send + 'static>(
    api: Api,
    reader: Reader,
    wanted: WhichRows,
    write: fn(R) -> T,
) -> Response {
    let order = match wanted.sort.as_deref().map(order::<R>).transpose() {
        Ok(order) => order,
        Err(why) => return error(StatusCode::BAD_REQUEST, &why),
    };
    let which = Which::of(wanted.service.clone());
    let only = match which.service_ids(&api).await {
        Ok(only) => only,
        Err(refusal) => return *refusal,
    };
    let list = match reader.place(false) {
        Ok(list) => list,
        Err(refusal) => return *refusal,
    };
    let found = async {
        let services = move |control: &Control| control.services(only.as_deref());
        let mut all = api.handle.ask(services).await?;
        let places = places(&api, &mut all, &wanted, order).await?;
        Ok::<_, NoAnswer>((all, places))
    };
    let (all, places) = match found.await {
        Ok(found) => found,
        Err(why) => return no_answer(why),
    };
    let total = places.len();
    let places = places.into_iter().skip(wanted.offset);
    let places: Vec<_> = places.take(wanted.limit.unwrap_or(usize::MAX)).collect();
    let mut answer = stream_at(list, JSON, async move |pieces| {
        let mut array = Array::new(pieces);
        let mut left = &places[..];
        while !left.is_empty() {
            let (slice, services) = slice(&mut left);
            let asked: Vec<_> = services.keys().map(|n| all[*n].clone()).collect();
            let shown = api.handle.ask(move |control| R::show(control, &asked));
            let rows = shown.await?.into_iter();
            let mut rows: Vec<Vec<_>> = rows
                .map(|rows| rows.into_iter().map(Some).collect())
                .collect();
            let rows = slice.iter().filter_map(|place| {
                let of = rows.get_mut(*services.get(&place.service)?)?;
                of.get_mut(place.row)?.take()
            });
            array.add(rows.map(write)).await?;
        }
        array.end().await
    });
    answer
        .headers_mut()
        .insert(TOTAL, HeaderValue::from(total as u64));
    answer
}

/// Takes the next rows off a list: those of at most [`SLICE`] services, and where in the answer about these each service is.
fn slice<'a>(left: &mut &'a [Place]) -> (&'a [Place], BTreeMap<usize, usize>) {
    let mut services = BTreeMap::new();
    let end = left.iter().position(|place| {
        let is_full = services.len() == SLICE && !services.contains_key(&place.service);
        if !is_full {
            services.insert(place.service, 0);
        }
        is_full
    });
    let (slice, rest) = left.split_at(end.unwrap_or(left.len()));
    *left = rest;
    for (n, place) in services.values_mut().enumerate() {
        *place = n;
    }
    (slice, services)
}

/// The rows that are wanted, in their order, which that of `all` may become.
async fn places<R: Row>(
    api: &Api,
    all: &mut [Arc<Service>],
    wanted: &WhichRows,
    order: Option<(Order<R>, bool)>,
) -> Result<Vec<Place>, NoAnswer> {
    match &order {
        Some((Order::Name, _)) => all.sort_by(|a, b| (&a.name, a.key).cmp(&(&b.name, b.key))),
        Some((Order::Address, _)) => all.sort_by_key(|service| {
            let key = service.key;
            (key.address, key.port, key.protocol, key.last)
        }),
        _ => {}
    }
    let is_reversed = matches!(order, Some((_, true)));
    let number = match order {
        Some((Order::Number(number), _)) => Some(number),
        Some(_) if is_reversed => {
            all.reverse();
            None
        }
        _ => None,
    };
    let search = wanted.search.as_ref().map(|text| text.to_lowercase());
    let mut found: Vec<(u64, Place)> = Vec::new();
    for (n, slice) in all.chunks(SLICE).enumerate() {
        let services = (n * SLICE..).zip(slice);
        let named = services.flat_map(|(service, it)| {
            let rows = match &search {
                Some(search) if !is_named(it, search) => R::finds(it, search),
                _ => (0..R::count(it)).collect(),
            };
            rows.into_iter().map(move |row| Place { service, row })
        });
        let named: Vec<_> = named.collect();
        if number.is_none() && !wanted.impaired {
            found.extend(named.into_iter().map(|place| (0, place)));
            // Beside others' requests: there may be many names to look at.
            tokio::task::yield_now().await;
            continue;
        }
        if named.is_empty() {
            continue;
        }
        let asked = slice.to_vec();
        let shown = api.handle.ask(move |control| R::show(control, &asked));
        let rows = shown.await?;
        found.extend(named.into_iter().filter_map(|place| {
            let row = rows.get(place.service - n * SLICE)?.get(place.row)?;
            let is_wanted = !wanted.impaired || row.is_impaired();
            is_wanted.then(|| (number.map_or(0, |number| number(row)), place))
        }));
    }
    match (number, is_reversed) {
        (Some(_), true) => found.sort_by_key(|(number, _)| std::cmp::Reverse(*number)),
        (Some(_), false) => found.sort_by_key(|(number, _)| *number),
        (None, _) => {}
    }
    Ok(found.into_iter().map(|(_, place)| place).collect())
}
