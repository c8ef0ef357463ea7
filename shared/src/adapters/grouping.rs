//! Natural batching: what many jobs ask for at once goes in one round trip, as in a database's group commit.
//!
//! While a round trip is under way, what is asked gathers, and goes together with the next one. A second one takes off
//! beside it only for half a full load, or where the first takes long. So alone, a question goes at once; and the busier the
//! system is, the larger the groups are, because a group of three costs nearly as much as one of three hundred.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

/// Questions wait this long at most for a round trip that is under way, as long as another may take off.
const PATIENCE: Duration = Duration::from_millis(4);

/// Gathers questions into round trips. Each gets an answer of its own.
pub(super) struct Grouping<Q, A> {
    shared: Arc<Shared<Q, A>>,
}

struct Shared<Q, A> {
    waiting: Mutex<Waiting<Q, A>>,
    /// Round trips under way at most.
    flights: usize,
    /// Questions that go together at most.
    most: usize,
    /// So many that wait are worth a round trip of their own beside another one.
    load: usize,
}

struct Waiting<Q, A> {
    questions: VecDeque<(Q, oneshot::Sender<A>)>,
    flying: usize,
}

impl<Q, A> Shared<Q, A> {
    fn waiting(&self) -> MutexGuard<'_, Waiting<Q, A>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one more as flying, if it may take off.
    fn takes_off(&self, waiting: &mut Waiting<Q, A>, is_late: bool) -> bool {
        let count = waiting.questions.len();
        let takes_off = waiting.flying == 0
            || waiting.flying < self.flights && (count >= self.load || is_late && count > 0);
        waiting.flying += usize::from(takes_off);
        takes_off
    }
}

impl<Q: Send + 'static, A: Send + 'static> Grouping<Q, A> {
    /// At most `flights` round trips are under way at once, each of at most `most` questions.
    pub(super) fn new(flights: usize, most: usize) -> Self {
        let waiting = Mutex::new(Waiting { questions: VecDeque::new(), flying: 0 });
        Self { shared: Arc::new(Shared { waiting, flights, most, load: most.div_ceil(2) }) }
    }

    /// Asks with whoever else asks. `fly` makes the round trip and answers each question, in order; whichever asker's it
    /// is, it must do the same. It runs to its end also where the asker goes away. `None` if it panicked.
    pub(super) async fn ask<F, T>(&self, question: Q, fly: F) -> Option<A>
    where
        F: FnMut(Vec<Q>) -> T + Clone + Send + 'static,
        T: Future<Output = Vec<A>> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let takes_off = {
            let mut waiting = self.shared.waiting();
            waiting.questions.push_back((question, answer));
            self.shared.takes_off(&mut waiting, false)
        };
        if takes_off {
            take_off(self.shared.clone(), fly);
        }
        answered.await.ok()
    }
}

fn take_off<Q, A, F, T>(shared: Arc<Shared<Q, A>>, fly: F)
where
    Q: Send + 'static,
    A: Send + 'static,
    F: FnMut(Vec<Q>) -> T + Clone + Send + 'static,
    T: Future<Output = Vec<A>> + Send + 'static,
{
    tokio::spawn(fly_until_nobody_waits(shared, fly));
}

async fn fly_until_nobody_waits<Q, A, F, T>(shared: Arc<Shared<Q, A>>, mut fly: F)
where
    Q: Send + 'static,
    A: Send + 'static,
    F: FnMut(Vec<Q>) -> T + Clone + Send + 'static,
    T: Future<Output = Vec<A>> + Send + 'static,
{
    let mut flight = Flight { shared: &shared, trips: 0, is_over: false };
    loop {
        // Jobs that became ready in the same moment come along.
        tokio::task::yield_now().await;
        let Some((questions, askers)) = flight.board() else { return };
        let mut trip = pin!(fly(questions));
        let answers = loop {
            if let Ok(answers) = timeout(PATIENCE, &mut trip).await {
                break answers;
            }
            if shared.takes_off(&mut shared.waiting(), true) {
                take_off(shared.clone(), fly.clone());
            }
        };
        for (answer, asker) in answers.into_iter().zip(askers) {
            // Who went away does not want it any more.
            let _ = asker.send(answer);
        }
    }
}

/// Counted as flying until it is over, also where it ends by a panic.
struct Flight<'s, Q, A> {
    shared: &'s Shared<Q, A>,
    trips: u64,
    is_over: bool,
}

impl<Q, A> Flight<'_, Q, A> {
    /// Those that go together; `None`, and it is over, where nobody waits.
    fn board(&mut self) -> Option<(Vec<Q>, Vec<oneshot::Sender<A>>)> {
        let mut waiting = self.shared.waiting();
        let count = waiting.questions.len().min(self.shared.most);
        // What does not fill a round trip waits for the other one that is under way, unless this one took off for its sake.
        let is_left_to_another = self.trips > 0 && waiting.flying > 1 && count < self.shared.load;
        if count == 0 || is_left_to_another {
            waiting.flying -= 1;
            self.is_over = true;
            return None;
        }
        self.trips += 1;
        Some(waiting.questions.drain(..count).unzip())
    }
}

impl<Q, A> Drop for Flight<'_, Q, A> {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let mut waiting = self.shared.waiting();
        waiting.flying -= 1;
        if waiting.flying == 0 {
            // Nobody else would come for them: they are told that nothing came of it.
            waiting.questions.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::join_all;
    use tokio::sync::{Notify, Semaphore};

    use super::*;

    /// Doubles numbers; remembers how large its groups were; goes on only when it is let.
    #[derive(Clone)]
    struct Doubling {
        groups: Arc<Mutex<Vec<usize>>>,
        let_go: Arc<Semaphore>,
    }

    impl Doubling {
        fn new(let_go: usize) -> Self {
            Self { groups: Arc::default(), let_go: Arc::new(Semaphore::new(let_go)) }
        }

        async fn ask(&self, grouping: &Grouping<u64, u64>, number: u64) -> Option<u64> {
            let this = self.clone();
            let fly = move |numbers: Vec<u64>| {
                let this = this.clone();
                async move {
                    this.let_go.acquire().await.unwrap().forget();
                    this.groups.lock().unwrap().push(numbers.len());
                    numbers.into_iter().map(|number| number * 2).collect()
                }
            };
            grouping.ask(number, fly).await
        }

        fn groups(&self) -> Vec<usize> {
            self.groups.lock().unwrap().clone()
        }
    }

    #[tokio::test]
    async fn alone_a_question_goes_at_once() {
        let (grouping, doubling) = (Grouping::new(2, 10), Doubling::new(2));
        assert_eq!(doubling.ask(&grouping, 4).await, Some(8));
        assert_eq!(doubling.ask(&grouping, 5).await, Some(10));
        assert_eq!(doubling.groups(), [1, 1]);
    }

    #[tokio::test]
    async fn together_they_go_in_groups_of_bounded_size_and_each_gets_its_own_answer() {
        let (grouping, doubling) = (Grouping::new(1, 10), Doubling::new(100));
        let answers = join_all((0..25).map(|number| doubling.ask(&grouping, number))).await;
        assert_eq!(answers, (0..25).map(|number| Some(number * 2)).collect::<Vec<_>>());
        assert_eq!(doubling.groups(), [10, 10, 5]);
    }

    #[tokio::test]
    async fn what_is_asked_during_a_round_trip_gathers_for_the_next_one() {
        let (grouping, doubling) = (Grouping::new(1, 100), Doubling::new(1));
        assert_eq!(doubling.ask(&grouping, 0).await, Some(0));
        let asking = join_all((0..50).map(|number| doubling.ask(&grouping, number)));
        let letting_go = async {
            tokio::task::yield_now().await;
            doubling.let_go.add_permits(100);
        };
        let (answers, ()) = tokio::join!(asking, letting_go);
        assert!(answers.iter().all(Option::is_some));
        assert!(doubling.groups().len() <= 3, "{:?}", doubling.groups());
    }

    #[tokio::test]
    async fn no_more_round_trips_are_under_way_than_allowed() {
        let (flying, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let grouping = Grouping::new(3, 2);
        let asking = (0..100).map(|number: u64| {
            let (flying, most) = (flying.clone(), most.clone());
            grouping.ask(number, move |numbers: Vec<u64>| {
                let (flying, most) = (flying.clone(), most.clone());
                async move {
                    most.fetch_max(flying.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    tokio::task::yield_now().await;
                    flying.fetch_sub(1, Ordering::SeqCst);
                    numbers
                }
            })
        });
        let answers = join_all(asking).await;
        assert_eq!(answers, (0..100).map(Some).collect::<Vec<_>>());
        assert_eq!(most.load(Ordering::SeqCst), 3);
    }

    /// Lets two ask one after the other while no round trip ends; how many take off within a moment, and after a while.
    async fn taken_off(asked: u64, most: usize) -> (usize, usize) {
        let (grouping, begun) = (Grouping::new(3, most), Arc::new(AtomicUsize::new(0)));
        let counted = begun.clone();
        let fly = move |_: Vec<u64>| {
            let counted = counted.clone();
            async move {
                counted.fetch_add(1, Ordering::SeqCst);
                std::future::pending::<Vec<u64>>().await
            }
        };
        let first = grouping.ask(0, fly.clone());
        let others = async {
            // The first has to be under way.
            tokio::time::sleep(PATIENCE / 4).await;
            join_all((0..asked).map(|number| grouping.ask(number, fly.clone()))).await
        };
        let mut asking = pin!(async { tokio::join!(first, others) });
        let mut at = async |moment| {
            assert!(timeout(moment, &mut asking).await.is_err(), "nothing is ever answered");
            begun.load(Ordering::SeqCst)
        };
        (at(PATIENCE / 2).await, at(2 * PATIENCE).await)
    }

    #[tokio::test(start_paused = true)]
    async fn few_wait_for_the_round_trip_under_way_unless_it_takes_long() {
        assert_eq!(taken_off(9, 20).await, (1, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_load_takes_off_at_once() {
        assert_eq!(taken_off(10, 20).await.0, 2);
    }

    #[tokio::test]
    async fn an_asker_that_goes_away_takes_nothing_with_it() {
        let grouping: Grouping<u64, u64> = Grouping::new(1, 10);
        let (begun, done) = (Arc::new(Notify::new()), Arc::new(Semaphore::new(0)));
        let (starts, ends) = (begun.clone(), done.clone());
        let question = grouping.ask(1, move |numbers: Vec<u64>| {
            let (starts, ends) = (starts.clone(), ends.clone());
            async move {
                starts.notify_one();
                tokio::task::yield_now().await;
                ends.add_permits(1);
                numbers
            }
        });
        tokio::select! {
            biased;
            _ = question => panic!("it is not answered yet"),
            () = begun.notified() => {}
        }
        done.acquire().await.unwrap().forget();
    }

    #[tokio::test]
    async fn a_panic_is_told_to_those_that_it_concerns_and_the_next_one_goes() {
        let (grouping, doubling) = (Grouping::new(1, 10), Doubling::new(10));
        async fn broken(numbers: Vec<u64>) -> Vec<u64> {
            assert!(numbers.is_empty(), "it breaks");
            numbers
        }
        assert_eq!(grouping.ask(1, broken).await, None);
        assert_eq!(doubling.ask(&grouping, 4).await, Some(8));
    }
}
