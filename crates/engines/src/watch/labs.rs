//! Labs that are called up and taken down: whoever does that notifies ([`snorkel_netns::notify`]).

use std::time::Duration;

use snorkel_netns::notify::Listener;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::OnChange;
use crate::Engine;

/// What the name begins with under which labs notify.
const PREFIX: &str = "snorkel-lab-watch/";
/// Anybody may notify, as often as he likes. After each time nobody is heard for so long, and what came meanwhile counts as
/// one; for twice as long with each time that something did come, up to the longest.
const REST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(8);
/// No queue is longer that is not filled up again while it is emptied.
const QUEUE: usize = 1024;

/// Every time that somebody notifies.
pub(super) async fn follow(on_change: OnChange) -> std::io::Result<()> {
    // SAFETY: a Listener is one open descriptor as long as it lives, and it lives in the AsyncFd.
    let listener = unsafe { AsyncFd::register_with_interest(Listener::bind(PREFIX)?, Interest::READABLE) }?;
    on_change(Engine::Lab);
    let mut rest = REST;
    loop {
        drop(listener.readable().await?);
        let mut heard = emptied(&listener)?;
        while heard {
            on_change(Engine::Lab);
            tokio::time::sleep(rest).await;
            heard = emptied(&listener)?;
            rest = if heard { (rest * 2).min(LONGEST) } else { REST };
        }
    }
}

/// Empties the queue; whether there was something in it.
fn emptied(listener: &AsyncFd<Listener>) -> std::io::Result<bool> {
    let mut heard = false;
    for _ in 0..QUEUE {
        match listener.try_io(Interest::READABLE, Listener::take) {
            Ok(()) => heard = true,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(heard)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc;
    use std::time::Instant;

    use snorkel_netns::{Netns, notify};

    use super::*;
    use crate::{Endpoints, Query};

    /// What is not heard for so long is not told.
    const LONG: Duration = Duration::from_secs(60);

    /// Watches labs and nothing else.
    fn query() -> Query {
        let endpoints = Endpoints { lab: true, ..Endpoints::none() };
        Query { endpoints, ..Query::default() }
    }

    #[test]
    fn each_notification_is_news() {
        // Where no other test's labs are.
        let news = || {
            let (tell, told) = mpsc::channel();
            let _watch = crate::watch(&query(), move |engine| tell.send(engine).unwrap_or_default());
            for _ in 0..3 {
                assert_eq!(told.recv_timeout(LONG), Ok(Engine::Lab));
                notify::all(PREFIX).unwrap();
            }
            assert_eq!(told.recv_timeout(LONG), Ok(Engine::Lab));
        };
        Netns::private().expect("this test needs root").run(news).unwrap();
    }

    #[test]
    fn a_flood_is_heard_now_and_then() {
        let flood = || {
            let (tell, told) = mpsc::channel();
            let over = AtomicBool::new(false);
            let _watch = crate::watch(&query(), move |_| tell.send(Instant::now()).unwrap_or_default());
            let begun = told.recv_timeout(LONG).unwrap();
            let heard: Vec<Instant> = std::thread::scope(|scope| {
                // In the scope's thread: namespaces are a thread's own, and its children's.
                scope.spawn(|| {
                    while !over.load(Ordering::Relaxed) {
                        notify::all(PREFIX).unwrap();
                    }
                });
                let heard = (0..4).map_while(|_| told.recv_timeout(LONG).ok()).collect();
                over.store(true, Ordering::Relaxed);
                heard
            });
            assert_eq!(heard.len(), 4);
            assert!(heard[0] >= begun);
            assert!(heard.windows(2).all(|pair| pair[1] - pair[0] >= REST), "{heard:?}");
        };
        Netns::private().expect("this test needs root").run(flood).unwrap();
    }
}
