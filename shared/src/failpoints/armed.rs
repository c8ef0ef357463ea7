//! What a test has ordered.

use std::collections::HashMap;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::{Guard, Point};

/// The variable in which a process is told where to fail: `POINT=ACTION` or `POINT=ACTION@N`, for the Nth time that it
/// gets there and no other. An action is `abort`, `pause:` and a number of milliseconds, or `hold:` and the path of a file: it
/// is written there, and the process goes on when somebody removes it.
pub const VARIABLE: &str = "FAILPOINT";

/// The variable in which a process is told which guard to do without.
pub const WITHOUT_VARIABLE: &str = "WITHOUT_GUARD";

static ORDER: Mutex<Option<Order>> = Mutex::new(None);
static IS_ARMED: AtomicBool = AtomicBool::new(false);
static VISITS: AtomicU64 = AtomicU64::new(0);
static FENCE_IS_OFF: AtomicBool = AtomicBool::new(false);
static JOURNAL_IS_OFF: AtomicBool = AtomicBool::new(false);
static DEAD_LETTERING_IS_OFF: AtomicBool = AtomicBool::new(false);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Order {
    point: Point,
    action: Action,
    visit: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Action {
    Abort,
    Pause(Duration),
    Hold(PathBuf),
}

/// How often a process that is held looks whether it may go on.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Takes the orders in a process's environment.
///
/// # Errors
/// If one of them is none.
pub fn obey(environment: &HashMap<String, String>) -> Result<(), String> {
    if let Some(order) = environment.get(VARIABLE) {
        let order = order.parse()?;
        *ORDER.lock().unwrap_or_else(PoisonError::into_inner) = Some(order);
        IS_ARMED.store(true, Ordering::Relaxed);
    }
    if let Some(name) = environment.get(WITHOUT_VARIABLE) {
        let guard = Guard::ALL.into_iter().find(|guard| guard.as_str() == name);
        turn_off(guard.ok_or_else(|| format!("`{name}` is no guard"))?);
    }
    Ok(())
}

/// Does without a guard from now on.
pub fn turn_off(guard: Guard) {
    switch(guard).store(true, Ordering::Relaxed);
}

/// Whether this process does without a guard.
pub fn is_off(guard: Guard) -> bool {
    switch(guard).load(Ordering::Relaxed)
}

fn switch(guard: Guard) -> &'static AtomicBool {
    match guard {
        Guard::Fence => &FENCE_IS_OFF,
        Guard::Journal => &JOURNAL_IS_OFF,
        Guard::DeadLettering => &DEAD_LETTERING_IS_OFF,
    }
}

/// Does what was ordered for this place, if anything was.
pub async fn reached(point: Point) {
    // Nothing is ordered of nearly all processes, also where this is compiled in.
    if !IS_ARMED.load(Ordering::Relaxed) {
        return;
    }
    let order = ORDER.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let Some(order) = order.filter(|order| order.point == point) else { return };
    if VISITS.fetch_add(1, Ordering::SeqCst) + 1 != order.visit {
        return;
    }
    match order.action {
        Action::Abort => std::process::abort(),
        Action::Pause(pause) => {
            tracing::warn!(point = point.as_str(), ?pause, "failpoint reached");
            tokio::time::sleep(pause).await;
        }
        Action::Hold(file) => {
            if let Err(error) = std::fs::write(&file, point.as_str()) {
                tracing::error!(point = point.as_str(), %error, "failpoint cannot say that it is reached");
            }
            while file.exists() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        }
    }
}

impl FromStr for Order {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (point, rest) = text.split_once('=').ok_or_else(|| format!("`{text}` is not POINT=ACTION"))?;
        let point = Point::ALL.into_iter().find(|known| known.as_str() == point);
        let (action, visit) = rest.split_once('@').unwrap_or((rest, "1"));
        let action = match action.split_once(':') {
            None if action == "abort" => Some(Action::Abort),
            Some(("hold", file)) => Some(Action::Hold(file.into())),
            Some(("pause", milliseconds)) => milliseconds
                .parse()
                .ok()
                .map(|milliseconds| Action::Pause(Duration::from_millis(milliseconds))),
            _ => None,
        };
        Ok(Self {
            point: point.ok_or_else(|| format!("`{text}` names no failpoint"))?,
            action: action.ok_or_else(|| format!("`{text}` names no action"))?,
            visit: visit.parse().map_err(|_| format!("`{text}`: `{visit}` is no number"))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_names_a_place_an_action_and_a_visit() {
        let order = |text: &str| text.parse::<Order>();
        assert_eq!(
            order("after_answer=abort@3"),
            Ok(Order { point: Point::AfterAnswer, action: Action::Abort, visit: 3 })
        );
        let pause = Action::Pause(Duration::from_millis(1_500));
        assert_eq!(
            order("after_lease=pause:1500"),
            Ok(Order { point: Point::AfterLease, action: pause, visit: 1 })
        );
        let hold = Action::Hold("/tmp/held".into());
        assert_eq!(
            order("zombie=hold:/tmp/held"),
            Ok(Order { point: Point::Zombie, action: hold, visit: 1 })
        );
        for text in ["", "after_lease", "nowhere=abort", "after_lease=explode", "after_lease=abort@x"] {
            assert!(order(text).is_err(), "{text}");
        }
        for point in Point::ALL {
            assert!(order(&format!("{}=abort", point.as_str())).is_ok());
        }
    }
}
