//! What is played: how load comes and goes, and when the provider is out.

use std::time::Duration;

/// Calls that a worker has in hand at once; the shipped `worker.concurrency` is divided by as much as the load.
pub(crate) const IN_HAND: u16 = 2;
/// How long the provider takes for an answer.
pub(crate) const CALL: Duration = Duration::from_millis(200);

/// A time of one load.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Phase {
    /// How long, in minutes of the manifests' time.
    pub(crate) minutes: f64,
    /// How many workers it keeps busy, if they did nothing but wait for the provider.
    pub(crate) load: f64,
    /// How the provider behaves.
    pub(crate) provider: Provider,
}

/// How a provider behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Provider {
    /// It answers.
    Serves,
    /// 503 at once.
    Refuses,
    /// Not a byte.
    Hangs,
}

/// A play.
pub(crate) struct Scenario {
    /// How many seconds of the manifests' time pass in one.
    pub(crate) speed: f64,
    /// One after another.
    pub(crate) phases: &'static [Phase],
}

const fn phase(minutes: f64, load: f64, provider: Provider) -> Phase {
    Phase { minutes, load, provider }
}

/// An hour and a half: a wave for more workers than there are at first, another, and two kinds of outages.
const WHOLE: Scenario = Scenario {
    speed: 20.0,
    phases: &[
        phase(6.0, 1.0, Provider::Serves),
        phase(12.0, 4.5, Provider::Serves),
        phase(16.0, 1.2, Provider::Serves),
        phase(6.0, 1.0, Provider::Refuses),
        phase(12.0, 1.0, Provider::Serves),
        phase(6.0, 3.0, Provider::Serves),
        phase(14.0, 1.2, Provider::Serves),
        phase(6.0, 1.0, Provider::Hangs),
        phase(14.0, 0.5, Provider::Serves),
    ],
};

/// One wave, and one outage.
const QUICK: Scenario = Scenario {
    speed: 30.0,
    phases: &[
        phase(1.0, 1.0, Provider::Serves),
        phase(4.0, 4.0, Provider::Serves),
        phase(9.0, 1.2, Provider::Serves),
        phase(3.0, 1.0, Provider::Refuses),
        phase(1.0, 0.5, Provider::Serves),
    ],
};

impl Scenario {
    /// The whole one, or the short one.
    pub(crate) fn of(is_quick: bool) -> &'static Self {
        if is_quick { &QUICK } else { &WHOLE }
    }

    /// A time of the manifests, as it passes here.
    pub(crate) fn fast(&self, time: Duration) -> Duration {
        time.div_f64(self.speed)
    }

    /// How long it is, in the manifests' time.
    pub(crate) fn length(&self) -> Duration {
        Duration::from_secs_f64(60.0 * self.phases.iter().map(|phase| phase.minutes).sum::<f64>())
    }

    /// Each phase with its begin and its end, in minutes.
    pub(crate) fn plan(&self) -> impl Iterator<Item = (f64, f64, Phase)> {
        self.phases.iter().scan(0.0, |begin, phase| {
            let from = *begin;
            *begin += phase.minutes;
            Some((from, *begin, *phase))
        })
    }

    /// The phase of this minute; `None` after the last.
    pub(crate) fn at(&self, minute: f64) -> Option<Phase> {
        self.plan().find(|(_, until, _)| minute < *until).map(|(_, _, phase)| phase)
    }

    /// When each connection comes due, as time passes here.
    pub(crate) fn due(&self) -> Vec<Duration> {
        let of_one = f64::from(IN_HAND) / CALL.as_secs_f64();
        let mut due = Vec::new();
        for (from, until, phase) in self.plan() {
            let [from, until] = [from, until].map(|minute| minute * 60.0 / self.speed);
            let rate = phase.load * of_one;
            let count = ((until - from) * rate) as u32;
            due.extend((0..count).map(|number| Duration::from_secs_f64(from + f64::from(number) / rate)));
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_much_comes_due_as_the_load_says() {
        let due = QUICK.due();
        // Minutes of two seconds, workers of ten calls a second.
        let by = |second: u64| due.iter().filter(|due| **due < Duration::from_secs(second)).count();
        assert_eq!((by(2), by(10), by(28)), (20, 20 + 320, 20 + 320 + 216));
        assert!(due.is_sorted());
    }

    #[test]
    fn a_minute_has_its_phase() {
        assert_eq!(QUICK.at(14.5).map(|phase| phase.provider), Some(Provider::Refuses));
        assert!(QUICK.at(18.0).is_none());
    }
}
