//! Did what happened agree with what was expected? Each disagreement is a sentence.

use serde_json::Value;

use super::traffic::Peer;
use super::{Errno, Expect, Scene, Seen};
use crate::support::flood::whole_lines;
use crate::support::total;

/// Of the call that fails, in one run: more would be a busy wait.
const MOST_CALLS: usize = 300;

#[derive(Default)]
struct Wrong(Vec<String>);

impl Wrong {
    fn unless(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.0.push(otherwise());
        }
    }
}

impl Seen {
    /// What is wrong with it. `is_first`: it was to fail at its first time.
    pub(crate) fn verdict(
        &self,
        scene: Scene,
        expect: Expect,
        errno: Errno,
        is_first: bool,
    ) -> Vec<String> {
        let mut wrong = Wrong::default();
        let expect = match self.log.injected {
            0 => Expect::Unharmed,
            _ => expect,
        };
        let calls = self.log.calls;
        wrong.unless(calls <= MOST_CALLS, || {
            format!("a busy wait: {calls} calls")
        });
        wrong.unless(!self.said.contains("panicked"), || "panicked".to_owned());
        let code = self.expected_code(expect, is_first);
        wrong.unless(self.code == Some(code), || {
            format!("ended with {:?}, not {code}", self.code)
        });
        if code != 0 || matches!(expect, Expect::Explained | Expect::Reconnects) {
            self.says(&mut wrong, &errno.text());
        }
        match (expect, &self.report) {
            (Expect::Refused(_), _) if code != 0 => {}
            (Expect::FailsToReport, _) | (Expect::Refused(_), None) => {
                self.says(&mut wrong, &errno.text());
                self.says(&mut wrong, "--report");
                self.complete(&mut wrong, 0);
            }
            (_, None) => wrong.0.push("no report".to_owned()),
            (_, Some(report)) => {
                self.books(&mut wrong, report, scene, errno);
                self.told(&mut wrong, report, expect, errno);
                self.rows(&mut wrong, expect, errno);
            }
        }
        wrong.0
    }

    fn expected_code(&self, expect: Expect, is_first: bool) -> i32 {
        match expect {
            // Later calls are those of a run, such as for its report.
            Expect::Refused(_) if !is_first && self.said.contains("listening on") => {
                i32::from(self.report.is_none())
            }
            Expect::Refused(code) => code,
            Expect::Fails => 1,
            // One that SIGUSR1 asked for is no reason to fail.
            Expect::FailsToReport => i32::from(self.report.is_none()),
            _ => 0,
        }
    }

    fn says(&self, wrong: &mut Wrong, words: &str) {
        let says = self.said.contains(words);
        wrong.unless(says, || format!("does not say {words:?}"));
    }

    /// Each byte that was received is somewhere, and the output is what is said to be delivered.
    fn books(&self, wrong: &mut Wrong, report: &Value, scene: Scene, errno: Errno) {
        let sum = |name: &str| total(report, &format!("/bytes/{name}"));
        let (received, published, delivered) =
            (sum("received"), sum("published"), sum("delivered"));
        let (discarded, staged) = (sum("discarded"), sum("staged"));
        let (abandoned, in_rings) = (sum("abandoned"), sum("in_rings"));
        let balanced = received == published + discarded + staged
            && published == delivered + abandoned + in_rings
            && report["balanced"] == true;
        wrong.unless(balanced, || format!("not balanced: {}", report["bytes"]));
        let sent: usize = self.peers.iter().map(|peer| peer.sent.len()).sum();
        let possible = received <= sent as u64;
        wrong.unless(possible, || format!("received {received} of {sent} bytes"));

        // Only a file can give back the part of a message that was written before a failure.
        let output = match scene {
            Scene::File => &self.output,
            _ => whole_lines(&self.output),
        };
        // A kernel that lies about a byte has it.
        let lies = errno.number().is_none() && self.code == Some(0);
        let out = output.len() as u64 + if lies { self.log.injected as u64 } else { 0 };
        let twice = total(report, "/unconfirmed") > 0 && out > delivered;
        wrong.unless(out == delivered || twice, || {
            format!("{out} bytes of output: {}", report["bytes"])
        });
        let lost = abandoned + in_rings + staged;
        let is_told = lost == 0 || self.said.contains("bytes were not delivered");
        wrong.unless(is_told, || format!("{lost} bytes lost without a word"));
    }

    /// Who lost something, and do the counters say why?
    fn told(&self, wrong: &mut Wrong, report: &Value, expect: Expect, errno: Errno) {
        let injected = self.log.injected as u64;
        let count = |name: &str| total(report, &format!("/connections/{name}"));
        let (system, reset) = (count("closed/system"), count("closed/reset"));
        let refused = count("refused/descriptors");
        let own = self.peers.iter().filter(|peer| peer.reset).count() as u64;
        let (mut systems, mut resets, mut refusals, mut cut) = (0, 0, 0, 0);
        match expect {
            Expect::EndsConnection => (systems, cut) = (injected, injected),
            Expect::Resets => (resets, cut) = (injected, injected),
            Expect::Refuses => (refusals, cut) = (injected, refused),
            Expect::Untold => cut = injected,
            Expect::Late => {
                let sent: usize = self.peers.iter().map(|peer| peer.sent.len()).sum();
                let told = total(report, "/bytes/received") + total(report, "/unread");
                // Nobody knows what came to a backlog.
                let in_backlog = count("accepted") < self.peers.len() as u64;
                let all = told == sent as u64 || in_backlog;
                wrong.unless(all, || format!("{told} of {sent} bytes are told"));
                cut = injected;
            }
            Expect::Starves | Expect::Fails => cut = u64::MAX,
            // Of a kernel that lied, a line has lost its tag.
            _ if errno.number().is_none() => cut = injected,
            _ => {}
        }
        let agree = system <= systems && reset <= own + resets && refused <= refusals;
        wrong.unless(agree, || {
            format!("{injected} failures: {}", report["connections"])
        });
        self.complete(wrong, cut);
        let may_leak = matches!(expect, Expect::Fails | Expect::Late);
        let leaks = !self.is_clean && !may_leak;
        wrong.unless(!leaks, || "descriptors are not given back".to_owned());
    }

    /// All but so many peers have lost nothing.
    fn complete(&self, wrong: &mut Wrong, but: u64) {
        let lost: Vec<_> = self
            .peers
            .iter()
            .map(|peer| (peer, peer.delivered(&self.output).len(), peer.sent.len()))
            .filter(|(_, out, sent)| out < sent)
            .map(|(peer, out, sent)| format!("{}: {out} of {sent}", peer.name))
            .collect();
        wrong.unless(lost.len() as u64 <= but, || {
            format!("cut, where {but} may be: {lost:?}")
        });
    }

    /// What each connection that ended before the end is said to have come to.
    fn rows(&self, wrong: &mut Wrong, expect: Expect, errno: Errno) {
        let number = errno.number().map(i64::from);
        let has_errno = |row: &&Value| row["reason"] == "system" && row["errno"].as_i64() == number;
        let named = self.ended.iter().filter(has_errno).count();
        let should = match expect {
            Expect::EndsConnection => self.before,
            _ => 0,
        };
        wrong.unless(named == should, || {
            format!("{named} connections name the errno, not {should}")
        });
        for row in &self.ended {
            let is_it = |peer: &&Peer| row["peer"] == peer.name.as_str();
            let Some(peer) = self.peers.iter().find(is_it) else {
                continue;
            };
            let sent = peer.sent.len() as u64;
            let (received, unread) = (total(row, "/received"), total(row, "/unread"));
            let fits = match row["reason"] == "eof" {
                true => (received, unread) == (sent, 0),
                false => received + unread <= sent,
            };
            wrong.unless(fits, || format!("sent {sent}: {row}"));
            // Nothing was abandoned, doubled or lied about.
            if self.code == Some(0) && expect != Expect::Reconnects && errno.number().is_some() {
                let out = peer.delivered(&self.output);
                let is_it = out.len() as u64 == total(row, "/published");
                wrong.unless(is_it && peer.sent.starts_with(&out), || {
                    format!("{} bytes of output: {row}", out.len())
                });
            }
        }
    }
}
