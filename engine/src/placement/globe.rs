//! Places on the globe, and how far they are from each other.

use serde::{Deserialize, Serialize};

/// Mean radius of the earth.
const RADIUS_KM: f64 = 6371.0;

/// A place on the globe.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "(f64, f64)", into = "(f64, f64)")]
pub struct Site {
    latitude: f64,
    longitude: f64,
}

/// Why these are no coordinates.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum SiteError {
    /// It is not on the globe.
    #[error("a latitude lies between -90 and 90 degrees, not at {0}")]
    Latitude(f64),
    /// It is not on the globe.
    #[error("a longitude lies between -180 and 180 degrees, not at {0}")]
    Longitude(f64),
}

impl Site {
    /// A place at these degrees, north and east positive.
    ///
    /// # Errors
    /// Where there is no such place.
    pub fn new(latitude: f64, longitude: f64) -> Result<Self, SiteError> {
        if !(-90.0..=90.0).contains(&latitude) {
            return Err(SiteError::Latitude(latitude));
        }
        if !(-180.0..=180.0).contains(&longitude) {
            return Err(SiteError::Longitude(longitude));
        }
        Ok(Self { latitude, longitude })
    }

    /// Along the great circle, in kilometres.
    pub fn distance_km(self, other: Self) -> f64 {
        let (lat, other_lat) = (self.latitude.to_radians(), other.latitude.to_radians());
        let half = |a: f64, b: f64| ((b - a) / 2.0).sin().powi(2);
        let chord = half(lat, other_lat)
            + lat.cos() * other_lat.cos() * half(self.longitude.to_radians(), other.longitude.to_radians());
        2.0 * RADIUS_KM * chord.clamp(0.0, 1.0).sqrt().asin()
    }
}

impl TryFrom<(f64, f64)> for Site {
    type Error = SiteError;

    fn try_from((latitude, longitude): (f64, f64)) -> Result<Self, SiteError> {
        Self::new(latitude, longitude)
    }
}

impl From<Site> for (f64, f64) {
    fn from(site: Site) -> Self {
        (site.latitude, site.longitude)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn site() -> impl Strategy<Value = Site> {
        (-90.0..=90.0f64, -180.0..=180.0f64).prop_map(|(lat, lon)| Site::new(lat, lon).unwrap())
    }

    proptest! {
        #[test]
        fn distance_is_one(a in site(), b in site(), c in site()) {
            let (ab, ba, bc, ac) = (a.distance_km(b), b.distance_km(a), b.distance_km(c), a.distance_km(c));
            prop_assert!((ab - ba).abs() < 1e-6);
            prop_assert!(a.distance_km(a) < 1e-6);
            prop_assert!(ab <= RADIUS_KM * std::f64::consts::PI + 1e-6);
            prop_assert!(ac <= ab + bc + 1e-3);
        }
    }

    #[test]
    fn known_cities_are_as_far_as_the_atlas_says() {
        let site = |lat, lon| Site::new(lat, lon).unwrap();
        let (berlin, paris, sydney) = (
            site(52.5200, 13.4050),
            site(48.8566, 2.3522),
            site(-33.8688, 151.2093),
        );
        assert!((berlin.distance_km(paris) - 878.0).abs() < 5.0);
        assert!((berlin.distance_km(sydney) - 16_094.0).abs() < 50.0);
        // Across the date line is near.
        assert!(site(0.0, 179.9).distance_km(site(0.0, -179.9)) < 23.0);
    }

    #[test]
    fn what_is_not_on_the_globe_is_refused() {
        assert_eq!(Site::new(91.0, 0.0), Err(SiteError::Latitude(91.0)));
        assert_eq!(Site::new(0.0, 181.0), Err(SiteError::Longitude(181.0)));
        assert!(Site::new(f64::NAN, 0.0).is_err());
        assert!(serde_json::from_str::<Site>("[91.0, 0.0]").is_err());
    }
}
