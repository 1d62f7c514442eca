//! Admission of calls: tokens, and the three limits on calls (in a window, at once, in a day).
//!
//! A refused call counts against no limit. Adobe does not document this; counting it would lock out a client that keeps
//! calling. The call log's highest numbers count every call, because they measure the client.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use crate::marketo::types::{TokenBody, TokenErrorBody};
use crate::simulator::error::ApiRefusal;
use crate::simulator::settings::Settings;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Whether a call was admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It counts against the limits until its end.
    Admitted,
    /// It was refused and counts against no limit.
    Refused,
}

impl Admission {
    /// Returns the admission of a call with this result.
    pub fn of<T, E>(result: &Result<T, E>) -> Admission {
        match result {
            Ok(_) => Admission::Admitted,
            Err(_) => Admission::Refused,
        }
    }
}

/// Issued tokens and counted calls. Every `now` is the time since the simulator's start.
#[derive(Debug)]
pub(super) struct AdmissionControl {
    /// From the start to the first reset of the daily quota.
    first_reset: Duration,
    /// The valid token.
    token: Option<ValidToken>,
    expired: HashSet<String>,
    /// Times of all calls in the window.
    arrived: VecDeque<Duration>,
    /// Times of the admitted calls in the window.
    admitted: VecDeque<Duration>,
    under_way: usize,
    admitted_under_way: usize,
    /// Admitted calls since the last reset of the daily quota.
    calls_today: u64,
    /// Number of resets so far.
    day: u128,
    pub max_in_window: usize,
    pub max_at_once: usize,
}

/// The token that all logins get until it expires.
#[derive(Debug)]
struct ValidToken {
    text: String,
    until: Duration,
}

impl AdmissionControl {
    pub fn new(first_reset: Duration) -> AdmissionControl {
        AdmissionControl {
            first_reset,
            token: None,
            expired: HashSet::new(),
            arrived: VecDeque::new(),
            admitted: VecDeque::new(),
            under_way: 0,
            admitted_under_way: 0,
            calls_today: 0,
            day: 0,
            max_in_window: 0,
            max_at_once: 0,
        }
    }

    /// Issues a token for these credentials. Until it expires, the same token is returned with its remaining lifetime.
    ///
    /// # Errors
    /// The credentials are not those of the settings.
    pub fn issue(
        &mut self,
        now: Duration,
        settings: &Settings,
        id: &str,
        secret: &str,
    ) -> Result<TokenBody, TokenErrorBody> {
        if id != settings.client_id || secret != settings.client_secret {
            return Err(TokenErrorBody {
                error: "invalid_client".into(),
                error_description: "Bad client credentials".into(),
            });
        }
        self.expire(now);
        let token = self.token.get_or_insert_with(|| ValidToken {
            text: format!("{:032x}:sim", rand::random::<u128>()),
            until: now + settings.token_life,
        });
        Ok(TokenBody {
            access_token: token.text.clone(),
            token_type: "bearer".into(),
            expires_in: Some(token.until.saturating_sub(now).as_secs()),
            scope: "simulator@localhost".into(),
        })
    }

    /// Checks a token.
    ///
    /// # Errors
    /// 602 for an expired token, 601 for any other that is not the current one.
    pub fn check(&mut self, now: Duration, token: Option<&str>) -> Result<(), ApiRefusal> {
        self.expire(now);
        match (token, &self.token) {
            (Some(token), Some(valid)) if token == valid.text => Ok(()),
            (Some(token), _) if self.expired.contains(token) => Err(ApiRefusal::new(602, "Access token expired")),
            _ => Err(ApiRefusal::new(601, "Access token invalid")),
        }
    }

    /// Revokes every token issued so far.
    pub fn revoke(&mut self) {
        self.token = None;
        self.expired.clear();
    }

    fn expire(&mut self, now: Duration) {
        if let Some(token) = self.token.take_if(|token| token.until <= now) {
            self.expired.insert(token.text);
        }
    }

    /// Records the begin of a call. Whatever the result, [`end_call`](AdmissionControl::end_call) must follow when it
    /// ends.
    pub fn begin_call(&mut self, now: Duration, settings: &Settings, token: Option<&str>) -> Result<(), ApiRefusal> {
        self.under_way += 1;
        self.max_at_once = self.max_at_once.max(self.under_way);
        drop_calls_before_window(&mut self.arrived, now, settings.window);
        self.arrived.push_back(now);
        self.max_in_window = self.max_in_window.max(self.arrived.len());

        self.check(now, token)?;
        let day = match now.checked_sub(self.first_reset) {
            Some(past) => 1 + past.as_nanos() / DAY.as_nanos(),
            None => 0,
        };
        if self.day != day {
            (self.day, self.calls_today) = (day, 0);
        }
        drop_calls_before_window(&mut self.admitted, now, settings.window);
        if self.calls_today >= settings.daily_calls {
            return Err(ApiRefusal::new(607, "Daily quota reached"));
        }
        if self.admitted.len() >= settings.calls {
            let seconds = settings.window.as_secs_f64();
            return Err(ApiRefusal::new(
                606,
                format!("Max rate limit '{}' exceeded within '{seconds}' secs", settings.calls),
            ));
        }
        if self.admitted_under_way >= settings.concurrent_calls {
            return Err(ApiRefusal::new(615, "Concurrent access limit reached"));
        }
        self.admitted.push_back(now);
        self.calls_today += 1;
        self.admitted_under_way += 1;
        Ok(())
    }

    /// Records the end of a call, with the result of its [`begin_call`](AdmissionControl::begin_call).
    pub fn end_call(&mut self, admission: Admission) {
        self.under_way = self.under_way.saturating_sub(1);
        if admission == Admission::Admitted {
            self.admitted_under_way = self.admitted_under_way.saturating_sub(1);
        }
    }
}

/// Removes the calls that are a whole window old or older.
fn drop_calls_before_window(calls: &mut VecDeque<Duration>, now: Duration, window: Duration) {
    while calls.front().is_some_and(|&at| at + window <= now) {
        calls.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const TICK: Duration = Duration::from_nanos(1);

    fn opened(settings: &Settings) -> (AdmissionControl, String) {
        let mut access = AdmissionControl::new(DAY);
        let token = access.issue(Duration::ZERO, settings, "simulator", "secret").ok().unwrap();
        (access, token.access_token)
    }

    fn code(answer: Result<(), ApiRefusal>) -> String {
        answer.map_or_else(|refusal| refusal.name(), |()| "ok".into())
    }

    #[test]
    fn wrong_credentials_get_no_token() {
        let error =
            AdmissionControl::new(DAY).issue(Duration::ZERO, &Settings::default(), "simulator", "wrong").err().unwrap();
        assert_eq!(error.error, "invalid_client");
    }

    #[test]
    fn a_token_is_reissued_until_it_expires() {
        let settings = Settings::default();
        let (mut access, first) = opened(&settings);
        let life = settings.token_life;
        let late = access.issue(life - TICK, &settings, "simulator", "secret").ok().unwrap();
        assert_eq!((late.access_token.as_str(), late.expires_in), (first.as_str(), Some(0)));
        let next = access.issue(life, &settings, "simulator", "secret").ok().unwrap();
        assert_ne!(next.access_token, first);
        assert_eq!(next.expires_in, Some(3600));
    }

    #[test]
    fn an_expired_token_is_602_and_an_unknown_one_601() {
        let settings = Settings::default();
        let (mut access, token) = opened(&settings);
        let life = settings.token_life;
        assert_eq!(code(access.check(life - TICK, Some(&token))), "ok");
        assert_eq!(code(access.check(life, Some(&token))), "602");
        assert_eq!(code(access.check(life, Some("made up"))), "601");
        assert_eq!(code(access.check(life, None)), "601");
    }

    #[test]
    fn a_revoked_token_is_601_at_once_and_another_is_given() {
        let settings = Settings::default();
        let (mut access, token) = opened(&settings);
        access.revoke();
        assert_eq!(code(access.check(SECOND, Some(&token))), "601");
        let next = access.issue(SECOND, &settings, "simulator", "secret").ok().unwrap();
        assert_eq!(code(access.check(SECOND, Some(&next.access_token))), "ok");
    }

    #[test]
    fn the_101st_call_waits_until_the_first_leaves_the_window() {
        let settings = Settings::default();
        let (mut access, token) = opened(&settings);
        let mut call = |at| {
            let answer = access.begin_call(at, &settings, Some(&token));
            access.end_call(Admission::of(&answer));
            code(answer)
        };
        for n in 0..100 {
            assert_eq!(call(SECOND + TICK * n), "ok");
        }
        assert_eq!(call(SECOND * 2), "606");
        assert_eq!(call(SECOND * 21 - TICK), "606");
        assert_eq!(call(SECOND * 21), "ok");
        assert_eq!(call(SECOND * 21), "606");
        // The 99 that are left of the first hundred, and the four above.
        assert_eq!(access.max_in_window, 103);
    }

    #[test]
    fn the_eleventh_concurrent_call_waits_for_an_end() {
        let settings = Settings::default();
        let (mut access, token) = opened(&settings);
        for _ in 0..10 {
            assert_eq!(code(access.begin_call(SECOND, &settings, Some(&token))), "ok");
        }
        assert_eq!(code(access.begin_call(SECOND, &settings, Some(&token))), "615");
        access.end_call(Admission::Refused);
        assert_eq!(code(access.begin_call(SECOND, &settings, Some(&token))), "615");
        access.end_call(Admission::Refused);
        access.end_call(Admission::Admitted);
        assert_eq!(code(access.begin_call(SECOND, &settings, Some(&token))), "ok");
        assert_eq!(access.max_at_once, 11);
    }

    #[test]
    fn the_daily_quota_is_reset_every_day() {
        let settings = Settings { daily_calls: 2, token_life: DAY * 9, ..Settings::default() };
        let mut access = AdmissionControl::new(SECOND * 60);
        let token = access.issue(Duration::ZERO, &settings, "simulator", "secret").ok().unwrap().access_token;
        let mut call = |at| {
            let answer = access.begin_call(at, &settings, Some(&token));
            access.end_call(Admission::of(&answer));
            code(answer)
        };
        for reset in [Duration::ZERO, SECOND * 60, SECOND * 60 + DAY] {
            assert_eq!([call(reset), call(reset), call(reset)], ["ok", "ok", "607"]);
        }
        assert_eq!(call(SECOND * 60 + DAY * 2 - TICK), "607");
    }

    #[test]
    fn a_call_without_a_token_is_logged_but_not_limited() {
        let settings = Settings { calls: 1, ..Settings::default() };
        let (mut access, token) = opened(&settings);
        assert_eq!(code(access.begin_call(SECOND, &settings, None)), "601");
        assert_eq!(code(access.begin_call(SECOND, &settings, Some(&token))), "ok");
        assert_eq!(access.max_in_window, 2);
    }
}
