//! The keys of placement: what a shadow has to be like where nobody names it, and what is known of who could be one.
//!
//! Zones, sites, costs and round trips are the controller's alone, so they are declared here and not at the proxy's
//! endpoints: a proxy that reads the same file has no use for them.

use foreshade_contract::Name;
use foreshade_engine::placement::Site;
use foreshade_settings::{
    At, Json, Lasting, List, Part, Rate, Reference, Scalar, Shown, Weight, Wrong, millis, section,
};
use serde_json::json;

section! {
    /// Which shadows are chosen.
    Placement "a placement section":
    /// Least distance between a primary and its shadow on the globe.
    distance_min "distanceMin": default Distance = Distance(0);
    /// Farther than this is no better.
    distance_wanted "distanceWanted": default Distance = Distance(500);
    /// Whether a shadow in the zone of its primary will do.
    same_zone "sameZone": default bool = true;
    /// Whether a shadow in the region of its primary will do.
    same_region "sameRegion": default bool = true;
    /// Longest round trip to a shadow.
    latency_max "latencyMax": optional Lasting<1, 60_000>;
    /// A shorter round trip is no better.
    latency_wanted "latencyWanted": default Lasting<1, 60_000> = millis(20);
    /// Part of a shadow's capacity that the users of its primary may fill.
    fill_max "fillMax": default Part = Part(0.8);
    /// Highest cost of a shadow per hour, and the scale on which costs are compared; where left out, cost counts for nothing.
    cost_max "costMax": optional Cost;
    /// Whether a standby may be the shadow of several pairs. Only one of them can be promoted to it.
    shared "shared": default bool = false;
    /// How much better another shadow has to be, on a scale from 0 to 1, before the pair gets it.
    margin "margin": default Part = Part(0.2);
    /// Endpoints that are never chosen.
    exclude "exclude": list List<At<Name>, 0>;
    /// Where users are: round trips that nobody knows are estimated by it.
    users "users": list List<Users, 0>;
    /// What is known of endpoints beyond what the clusters say. Where the file has no clusters, these are all there are.
    endpoints "endpoints": list List<Known, 0>;
}

section! {
    /// Some of the users.
    Users "users of one place":
    /// Where they are, in degrees north and east.
    site "site": required Degrees;
    /// How many they are, in parts of any whole.
    part "part": default Weight = Weight(1.0);
}

section! {
    /// What is known of an endpoint.
    Known "what is known of an endpoint":
    /// Name of its cluster.
    cluster "cluster": required At<Reference>;
    /// Its name.
    name "name": required At<Reference>;
    /// Its zone: what fails together through power, network or cooling.
    zone "zone": optional Name;
    /// Its region: what fails together through weather or a bad rollout; that of the cluster where left out.
    region "region": optional Name;
    /// Where it stands, in degrees north and east.
    site "site": optional Degrees;
    /// What it can carry; what the cluster says where left out.
    capacity "capacity": optional Rate;
    /// What it costs per hour, in the currency of costMax.
    cost "cost": optional Cost;
    /// Round trip from the proxies to it. What they measure themselves stands above it.
    latency "latency": optional Lasting<1, 60_000>;
}

/// A place on the globe.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Degrees(pub(crate) Site);

impl Scalar for Degrees {
    fn expected() -> String {
        "degrees north and east, as 53.35 -6.26".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        let mut words = text.split([' ', ',']).filter(|word| !word.is_empty());
        let mut degrees = || words.next()?.parse::<f64>().ok();
        let (Some(north), Some(east), None) = (degrees(), degrees(), words.next()) else {
            return Err(Wrong::default());
        };
        let site = Site::new(north, east);
        site.map(Self)
            .map_err(|error| Wrong::because(format!("is on no globe: {error}")))
    }

    fn schema() -> Json {
        foreshade_settings::patterned(r"^[+-]?[0-9.]+[ ,]+[+-]?[0-9.]+$")
    }
}

/// A cost per hour.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost(pub(crate) f64);

impl Scalar for Cost {
    fn expected() -> String {
        "a number from 0 to 1000000000".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        let number: f64 = text.parse().map_err(|_| Wrong::default())?;
        if (0.0..=1e9).contains(&number) {
            return Ok(Self(number));
        }
        Err(Wrong::because("is out of range"))
    }

    fn schema() -> Json {
        json!({ "type": "number", "minimum": 0, "maximum": 1_000_000_000 })
    }
}

/// Kilometres.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Distance(pub(crate) u32);

impl Distance {
    /// Half of the way around.
    const KM_MAX: u32 = 20_038;
}

impl Scalar for Distance {
    fn expected() -> String {
        format!("a distance from 0km to {}km", Self::KM_MAX)
    }

    fn parse(text: &str) -> Result<Self, Wrong> {
        let Some(number) = text.strip_suffix("km") else {
            let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            return Err(Wrong::because("has no unit").hint(digits.then(|| format!("write {text}km"))));
        };
        let km = number.trim_end().parse().ok().filter(|km| *km <= Self::KM_MAX);
        km.map(Self).ok_or_else(|| Wrong::because("is out of range"))
    }

    fn schema() -> Json {
        foreshade_settings::patterned("^[0-9]{1,5} *km$")
    }
}

impl Shown for Distance {
    fn shown(&self) -> Json {
        format!("{}km", self.0).into()
    }
}
