//! Which nodes a step is about.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Some nodes, as a scenario names them. Nodes that are drawn are drawn from those alive.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum Selection {
    /// `all`: every replica.
    All,
    /// `seeds`: the bootstrap seeds.
    Seeds,
    /// `30%`: so many of the replicas, drawn; a share, 0 to 1.
    Share(f64),
    /// `5`: so many replicas, drawn.
    Count(usize),
    /// `region:eu`: the replicas of a region.
    Region(String),
    /// `region:any`: the replicas of a region that is drawn.
    AnyRegion,
    /// `zone:eu-a`: the replicas of a zone.
    Zone(String),
    /// `zone:any`: the replicas of a zone that is drawn.
    AnyZone,
    /// `node:3`: this replica, counted from 0.
    Node(usize),
    /// `first:10%`: so many replicas from the first on, not drawn; a share, 0 to 1.
    First(f64),
    /// `leader`: the node that leads the strong keyspace.
    Leader,
    /// `voters`: all voters of the strong keyspace; `voters:2`: so many of them, drawn.
    Voters(Option<usize>),
    /// `followers:1`: so many voters of the strong keyspace that do not lead, drawn.
    Followers(usize),
}

impl Selection {
    /// Whether it is about the strong keyspace.
    pub fn is_of_strong(&self) -> bool {
        matches!(self, Self::Leader | Self::Voters(_) | Self::Followers(_))
    }
}

impl TryFrom<String> for Selection {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let share = |text: &str| -> Option<f64> {
            let percent: f64 = text.strip_suffix('%')?.trim().parse().ok()?;
            (0.0..=100.0).contains(&percent).then_some(percent / 100.0)
        };
        let parsed = match text.as_str() {
            "all" => Some(Self::All),
            "seeds" => Some(Self::Seeds),
            "leader" => Some(Self::Leader),
            "voters" => Some(Self::Voters(None)),
            "region:any" => Some(Self::AnyRegion),
            "zone:any" => Some(Self::AnyZone),
            other => match other.split_once(':') {
                Some(("region", name)) => Some(Self::Region(name.to_string())),
                Some(("zone", name)) => Some(Self::Zone(name.to_string())),
                Some(("node", index)) => index.parse().ok().map(Self::Node),
                Some(("first", rest)) => share(rest).map(Self::First),
                Some(("voters", count)) => count.parse().ok().map(|count| Self::Voters(Some(count))),
                Some(("followers", count)) => count.parse().ok().map(Self::Followers),
                Some(_) => None,
                None => share(other).map(Self::Share).or_else(|| other.parse().ok().map(Self::Count)),
            },
        };
        parsed.ok_or_else(|| {
            format!(
                "`{text}` names no nodes: write all, seeds, 30%, 5, region:NAME, region:any, zone:NAME, zone:any, node:INDEX, \
                 first:30%, leader, voters, voters:2 or followers:1"
            )
        })
    }
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Seeds => f.write_str("seeds"),
            Self::Share(share) => write!(f, "{}%", 100.0 * share),
            Self::Count(count) => write!(f, "{count}"),
            Self::Region(name) => write!(f, "region:{name}"),
            Self::AnyRegion => f.write_str("region:any"),
            Self::Zone(name) => write!(f, "zone:{name}"),
            Self::AnyZone => f.write_str("zone:any"),
            Self::Node(index) => write!(f, "node:{index}"),
            Self::First(share) => write!(f, "first:{}%", 100.0 * share),
            Self::Leader => f.write_str("leader"),
            Self::Voters(None) => f.write_str("voters"),
            Self::Voters(Some(count)) => write!(f, "voters:{count}"),
            Self::Followers(count) => write!(f, "followers:{count}"),
        }
    }
}

impl From<Selection> for String {
    fn from(selection: Selection) -> Self {
        selection.to_string()
    }
}
