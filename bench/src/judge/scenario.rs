//! What is different between the two arms, and what happens to both.

/// Which answer would be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// The canary is no worse: rolling it back is an error.
    Same,
    /// The canary is worse: promoting it is an error.
    Worse,
}

/// What happens to both arms meanwhile.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Weather {
    /// Nothing.
    Calm,
    /// Connections that carry twenty requests die, ten times a minute, each on an arm that the coin drew for it.
    Bursts,
    /// After two minutes both arms fail twenty times as often.
    Drift,
    /// Every five minutes a third of everything fails for ten seconds, on both arms.
    SharedOutages,
}

/// A canary beside its primary.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scenario {
    /// In options, tables and results.
    pub name: &'static str,
    /// In words.
    pub story: &'static str,
    /// Which answer would be right.
    pub truth: Truth,
    /// Requests per second on both arms.
    pub rate: f64,
    /// Share of the primary's requests that fail.
    pub failures: f64,
    /// How many times more of the canary's do.
    pub failing: f64,
    /// How many times slower the canary is, at each quantile.
    pub slower: f64,
    /// What happens to both.
    pub weather: Weather,
}

const EQUAL: Scenario = Scenario {
    name: "",
    story: "",
    truth: Truth::Same,
    rate: 1000.0,
    failures: 0.002,
    failing: 1.0,
    slower: 1.0,
    weather: Weather::Calm,
};

const WORSE: Scenario = Scenario {
    truth: Truth::Worse,
    ..EQUAL
};

/// All of them.
pub static SCENARIOS: [Scenario; 17] = [
    Scenario {
        name: "equal-1000",
        story: "equal, 1000/s, 0.2 % fail",
        ..EQUAL
    },
    Scenario {
        name: "equal-100",
        story: "equal, 100/s, 0.5 % fail",
        rate: 100.0,
        failures: 0.005,
        ..EQUAL
    },
    Scenario {
        name: "equal-10",
        story: "equal, 10/s, 0.5 % fail",
        rate: 10.0,
        failures: 0.005,
        ..EQUAL
    },
    Scenario {
        name: "equal-sick",
        story: "equal, 1000/s, both fail at 1.5 %",
        failures: 0.015,
        ..EQUAL
    },
    Scenario {
        name: "equal-quiet",
        story: "equal, one request in 10 s, 0.5 % fail",
        rate: 0.1,
        failures: 0.005,
        ..EQUAL
    },
    Scenario {
        name: "bursts",
        story: "equal, 1000/s, connections with 20 requests die",
        weather: Weather::Bursts,
        ..EQUAL
    },
    Scenario {
        name: "drift",
        story: "equal, 1000/s, failures of both x20 after 2 min",
        weather: Weather::Drift,
        ..EQUAL
    },
    Scenario {
        name: "shared-outages",
        story: "equal, 1000/s, a third of both fails for 10 s every 5 min",
        weather: Weather::SharedOutages,
        ..EQUAL
    },
    Scenario {
        name: "failing-1.5x",
        story: "1000/s, 0.2 % fail, canary 1.5 times as many",
        failing: 1.5,
        ..WORSE
    },
    Scenario {
        name: "failing-2x",
        story: "1000/s, 0.2 % fail, canary 2 times as many",
        failing: 2.0,
        ..WORSE
    },
    Scenario {
        name: "failing-3x",
        story: "1000/s, 0.2 % fail, canary 3 times as many",
        failing: 3.0,
        ..WORSE
    },
    Scenario {
        name: "failing-10x",
        story: "1000/s, 0.2 % fail, canary 10 times as many",
        failing: 10.0,
        ..WORSE
    },
    Scenario {
        name: "outage",
        story: "1000/s, everything on the canary fails",
        failing: 500.0,
        ..WORSE
    },
    Scenario {
        name: "slower-1.5x",
        story: "1000/s, canary 1.5 times slower",
        slower: 1.5,
        ..WORSE
    },
    Scenario {
        name: "slower-3x",
        story: "1000/s, canary 3 times slower",
        slower: 3.0,
        ..WORSE
    },
    Scenario {
        name: "failing-3x-10",
        story: "10/s, 0.5 % fail, canary 3 times as many",
        rate: 10.0,
        failures: 0.005,
        failing: 3.0,
        ..WORSE
    },
    Scenario {
        name: "outage-quiet",
        story: "one request in 10 s, everything on the canary fails",
        rate: 0.1,
        failures: 0.005,
        failing: 200.0,
        ..WORSE
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_has_a_name_of_its_own_and_a_truth_that_fits() {
        for (index, scenario) in SCENARIOS.iter().enumerate() {
            assert!(
                SCENARIOS
                    .iter()
                    .skip(index + 1)
                    .all(|other| other.name != scenario.name)
            );
            let differs = scenario.failing > 1.0 || scenario.slower > 1.0;
            assert_eq!(differs, scenario.truth == Truth::Worse, "{}", scenario.name);
            assert!(scenario.failures * scenario.failing <= 1.0, "{}", scenario.name);
        }
    }
}
