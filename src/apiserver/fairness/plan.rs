//! What the objects of flow control say together: which schema a request belongs to, and how each level works.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::object;
use api::value::{int, text};
use base::Clock;
use http::HeaderValue;
use serde_json::Value;

use super::level::{Level, Settings};
use super::limits::{self, Nominal, Shares};
use super::metrics::{Counts, Series};
use super::queues::Shape;
use super::schema::{Digest, Schema};

/// The schema of those whom no other is about.
const CATCH_ALL: &str = "catch-all";

/// A schema, and where its requests go.
pub struct Flow {
    /// The schema.
    pub schema: Schema,
    /// Its priority level.
    pub level: Arc<Level>,
    /// Whether its requests never wait.
    pub exempt: bool,
    /// The widest that one of its requests may be.
    pub widest: u64,
    /// What is counted of them.
    pub counts: Arc<Counts>,
    /// The UIDs of schema and level, for the answers' headers.
    pub uids: [HeaderValue; 2],
}

/// All schemas in the order in which they are tried, and all levels by name.
#[derive(Default)]
pub struct Plan {
    flows: Vec<Arc<Flow>>,
    levels: BTreeMap<String, Arc<Level>>,
}

/// What a plan is made with.
pub struct Making<'m> {
    /// The server's seats.
    pub seats: u64,
    /// Where series come from.
    pub series: &'m Series,
    /// Where time comes from.
    pub clock: &'m Arc<dyn Clock>,
}

/// How a level's object wants it to be.
struct Wanted {
    uid: String,
    exempt: bool,
    shares: Shares,
    shape: Shape,
}

impl Plan {
    /// The plan of these objects. Levels that `before` has under the same name go on, with all who are in them.
    pub fn new(levels: &[Value], schemas: &[Value], before: &Plan, making: &Making) -> Self {
        let wanted: Vec<(String, Wanted)> = levels
            .iter()
            .map(|level| (object::name(level).to_owned(), Wanted::of(level)))
            .collect();
        let shares: Vec<Shares> = wanted.iter().map(|(_, wanted)| wanted.shares).collect();
        let nominal = limits::nominal(making.seats, &shares);
        let room = wanted.iter().map(|(_, wanted)| wanted.shape.room()).sum();
        let seats = nominal.iter().map(|nominal| nominal.own).sum();
        making.series.limits(room, seats, making.clock.monotonic());
        let mut made = BTreeMap::new();
        let mut known: BTreeMap<&str, (&Wanted, Nominal)> = BTreeMap::new();
        for ((name, wanted), nominal) in wanted.iter().zip(nominal) {
            let settings = Settings {
                shape: wanted.shape,
                nominal: (!wanted.exempt).then_some(nominal),
            };
            made.insert(name.clone(), level(name, settings, before, making));
            known.insert(name, (wanted, nominal));
        }
        let mut flows: Vec<Arc<Flow>> = schemas
            .iter()
            .map(Schema::of)
            .filter_map(|schema| {
                let (wanted, nominal) = known.get(schema.level.as_str())?;
                let level = made.get(&schema.level)?.clone();
                Some(Arc::new(flow(schema, level, wanted, *nominal, making.series)))
            })
            .collect();
        flows.sort_by(|a, b| {
            let place = |flow: &Flow| (flow.schema.precedence, flow.schema.name.clone());
            place(a).cmp(&place(b))
        });
        Self { flows, levels: made }
    }

    /// The schema that a request belongs to; `None` only when there is not even `catch-all`.
    pub fn flow(&self, request: &Digest) -> Option<&Arc<Flow>> {
        let fits = self.flows.iter().find(|flow| flow.schema.matches(request));
        // A user in neither of the groups that everybody is in, as only embedders have them.
        fits.or_else(|| self.flows.iter().find(|flow| flow.schema.name == CATCH_ALL))
    }

    /// All schemas, in the order in which they are tried.
    pub fn flows(&self) -> &[Arc<Flow>] {
        &self.flows
    }

    /// All levels.
    pub fn levels(&self) -> impl Iterator<Item = &Arc<Level>> {
        self.levels.values()
    }
}

fn level(name: &str, settings: Settings, before: &Plan, making: &Making) -> Arc<Level> {
    match before.levels.get(name) {
        Some(level) => {
            level.configure(settings);
            level.clone()
        }
        None => {
            let gauges = making.series.levels.of(name);
            Arc::new(Level::new(name, settings, gauges, making.clock.clone()))
        }
    }
}

fn flow(schema: Schema, level: Arc<Level>, wanted: &Wanted, nominal: Nominal, series: &Series) -> Flow {
    // A UID is plain text; only an object that nobody stored has none.
    let header = |uid: &str| HeaderValue::from_str(uid).unwrap_or(HeaderValue::from_static(""));
    Flow {
        counts: Arc::new(series.of_flow(&level.name, &schema.name)),
        exempt: wanted.exempt,
        widest: limits::width_max(nominal),
        uids: [header(&schema.uid), header(&wanted.uid)],
        level,
        schema,
    }
}

impl Wanted {
    fn of(object: &Value) -> Self {
        let spec = &object["spec"];
        let exempt = text(spec, "type") == "Exempt";
        let own = if exempt { &spec["exempt"] } else { &spec["limited"] };
        let number = |path: &str| int(own, path).and_then(|number| u64::try_from(number).ok());
        let count = |path: &str| usize::try_from(number(path).unwrap_or_default()).unwrap_or_default();
        let queues = text(own, "limitResponse.type") == "Queue";
        let shape = Shape {
            queues: count("limitResponse.queuing.queues"),
            hand: count("limitResponse.queuing.handSize"),
            length: count("limitResponse.queuing.queueLengthLimit"),
        };
        Self {
            uid: object::uid(object).to_owned(),
            exempt,
            shares: Shares {
                shares: number("nominalConcurrencyShares").unwrap_or_default(),
                lendable: number("lendablePercent").unwrap_or_default(),
                borrowing: number("borrowingLimitPercent"),
            },
            shape: if queues { shape } else { Shape::default() },
        }
    }
}
