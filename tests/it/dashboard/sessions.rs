//! Who gets in, how, and for how long.

use hyper::Method;
use multicredit_store::clock::Clock;
use sea_orm::{ConnectionTrait as _, Statement};
use serde_json::json;
use tests::app::{TestApp, instant, served, served_at};
use tests::both_engines;

use super::{COOKIE_NAME, Visitor, cookie_of, escape, log_in_with, text};

both_engines!(
    whoever_is_not_logged_in_is_led_to_the_form_and_back_to_where_they_were_going,
    served(async |app| {
        let stranger = app.stranger();
        let led = stranger.get("/dashboard/organizations?q=a%20b").await;
        assert_eq!(
            (led.status, led.header("Location")),
            (303, Some("/dashboard/login?next=%2Fdashboard%2Forganizations%3Fq%3Da%2520b"))
        );
        assert_eq!(stranger.get("/dashboard").await.header("Location"), Some("/dashboard/login"));
        // A key in a header is for programs: it is no session.
        assert_eq!(app.admin.get("/dashboard").await.status, 303);
        let form = stranger.get(led.header("Location").unwrap()).await;
        assert_eq!(form.status, 200);
        assert!(text(&form).contains(r#"name="next" value="/dashboard/organizations?q=a%20b""#), "{form}");
        let inside = log_in_with(&stranger, app.admin.key().unwrap(), "/dashboard/organizations?q=a%20b").await;
        assert_eq!((inside.status, inside.header("Location")), (303, Some("/dashboard/organizations?q=a%20b")));
        let elsewhere = log_in_with(&stranger, app.admin.key().unwrap(), "https://evil.example/").await;
        assert_eq!(elsewhere.header("Location"), Some("/dashboard"));
    })
);

both_engines!(
    the_cookie_holds_no_key_and_goes_nowhere_but_here,
    served(async |app| {
        let answer = log_in_with(&app.admin, app.admin.key().unwrap(), "").await;
        let (token, attributes) = cookie_of(&answer);
        assert!(token.len() >= 43 && !token.contains(app.admin.key().unwrap()), "{token}");
        assert_eq!(attributes, "Path=/dashboard; Max-Age=43200; HttpOnly; SameSite=Strict");
        assert_eq!(answer.header("Cache-Control"), Some("no-store"));
        // Behind TLS, which a proxy or the browser itself tells.
        for (name, value) in [("X-Forwarded-Proto", "https"), ("Origin", "https://credits.example")] {
            let form = format!("key={}", app.admin.key().unwrap());
            let secure = app.stranger().post("/dashboard/login").header("Sec-Fetch-Site", "same-origin");
            let secure = secure.header(name, value).body("application/x-www-form-urlencoded", form).await;
            assert!(cookie_of(&secure).1.ends_with("; Secure"), "{secure}");
        }
        // The token is no key.
        app.admin.with_key(&token).get("/v1/organizations").await.refused(401, "unauthorized");
    })
);

both_engines!(
    a_wrong_key_is_told_so_and_gets_nothing,
    served(async |app| {
        for wrong in
            ["", "wrong", "mc_0000000000000000000000000000000000000000000", "<script>alert(1)</script>", "\u{fc}"]
        {
            let answer = log_in_with(&app.admin, wrong, "/dashboard/performance").await;
            assert_eq!(answer.status, 401, "{answer}");
            assert_eq!(answer.header("Set-Cookie"), None);
            let page = text(&answer);
            assert!(page.contains("This key is not valid") && page.contains("/dashboard/performance"), "{page}");
            assert!(!page.contains("alert(1)"), "{page}");
        }
        let spender = app.key(&["consume"]).await;
        let answer = log_in_with(&spender, spender.key().unwrap(), "").await;
        assert_eq!((answer.status, answer.header("Set-Cookie")), (403, None));
        assert!(text(&answer).contains("may not read"), "{answer}");
    })
);

both_engines!(
    forms_of_other_sites_do_nothing,
    served(async |app| {
        let visitor = Visitor::with_key_of(&app.admin).await;
        for site in ["cross-site", "same-site", "none"] {
            let answer = visitor.log_out(site).await;
            assert_eq!(answer.status, 403, "{answer}");
        }
        let form = format!("key={}", app.admin.key().unwrap());
        let host = app.admin.address().to_string();
        for (origin, status) in [("http://evil.example", 403), ("null", 403), (&format!("http://{host}"), 303)] {
            let answer = app.stranger().post("/dashboard/login").header("Origin", origin);
            let answer = answer.body("application/x-www-form-urlencoded", form.clone()).await;
            assert_eq!(answer.status, status, "{origin}: {answer}");
        }
        let nowhere = app.stranger().post("/dashboard/login");
        assert_eq!(nowhere.body("application/x-www-form-urlencoded", form).await.status, 403);
        assert_eq!(visitor.get("/dashboard").await.status, 200, "the session goes on");
        // Logging out changes something, so it is no link.
        let answer = visitor.get("/dashboard/logout").await;
        assert_eq!((answer.status, answer.header("Allow")), (405, Some("POST")));
        assert_eq!(app.stranger().call(Method::DELETE, "/dashboard").await.status, 405);
    })
);

both_engines!(
    logging_out_ends_the_session_everywhere,
    served(async |app| {
        let replica = app.replica().await;
        let visitor = Visitor::with_key_of(&app.admin).await;
        let there = Visitor { client: replica.admin.without_key(), token: visitor.token.clone() };
        assert_eq!(there.get("/dashboard/organizations").await.status, 200, "any server knows the session");
        let out = visitor.log_out("same-origin").await;
        assert_eq!((out.status, out.header("Location")), (303, Some("/dashboard/login")));
        assert!(cookie_of(&out).1.contains("Max-Age=0"), "{out}");
        for visitor in [&visitor, &there] {
            let ended = visitor.get("/dashboard/organizations").await;
            assert_eq!(ended.status, 303);
            assert!(ended.header("Location").unwrap().ends_with("&ended=1"), "{ended}");
        }
        let form = app.stranger().get("/dashboard/login?ended=1").await;
        assert!(text(&form).contains("Your session has ended"), "{form}");
        replica.stop().await;
    })
);

both_engines!(
    a_revoked_key_is_logged_out_at_once,
    served(async |app| {
        let made = json!({ "name": "short-lived", "scopes": ["read"] });
        let made = app.admin.post("/v1/api-keys").json(made).await.expect(201);
        let client = app.admin.with_key(made["key"].as_str().unwrap());
        let visitor = Visitor::with_key_of(&client).await;
        assert_eq!(visitor.get("/dashboard").await.status, 200);
        app.admin.delete(&format!("/v1/api-keys/{}", made["id"].as_str().unwrap())).await.expect(204);
        assert_eq!(visitor.get("/dashboard").await.status, 303);
        assert_eq!(log_in_with(&client, client.key().unwrap(), "").await.status, 401);
    })
);

both_engines!(
    a_session_ends_by_itself_and_leaves_nothing_behind,
    served_at("2026-11-23T08:00:00Z", async |app: &TestApp, clock: &Clock| {
        let visitor = Visitor::with_key_of(&app.admin).await;
        clock.set(instant("2026-11-23T19:59:59.999999Z"));
        assert_eq!(visitor.get("/dashboard").await.status, 200);
        clock.set(instant("2026-11-23T20:00:00Z"));
        assert_eq!(visitor.get("/dashboard").await.status, 303);
        // The next one to log in takes what has ended away.
        Visitor::with_key_of(&app.admin).await;
        let connection = app.db().connect().await.unwrap();
        let count =
            Statement::from_string(connection.get_database_backend(), "SELECT COUNT(*) AS n FROM dashboard_sessions");
        let rows: i64 = connection.query_one_raw(count).await.unwrap().unwrap().try_get("", "n").unwrap();
        assert_eq!(rows, 1);
    })
);

both_engines!(
    a_bound_key_sees_its_organization_and_no_other,
    served(async |app| {
        let own = app.organization("acme", json!({ "ai": 5 })).await;
        let other = app.organization("other", json!({ "ai": 7 })).await;
        let visitor = Visitor::with_key_of(&app.bound_key(&["read"], &own).await).await;
        let home = visitor.get("/dashboard").await;
        assert_eq!(home.header("Location"), Some(format!("/dashboard/organizations/{}", own.id).as_str()));
        let list = visitor.page("/dashboard/organizations?q=other").await;
        assert!(list.contains("acme") && !list.contains(&other.id), "{list}");
        for rest in ["", "/usage", "/lots", "/holds", "/statement"] {
            visitor.page(&format!("/dashboard/organizations/{}{rest}", own.id)).await;
            // What is another's and what is not there are one and the same.
            let [foreign, absent, none] = [other.id.as_str(), "01932f5e-8b6a-7c3d-9e1f-2a4b6c8d0e1f", "no-id"]
                .map(|id| format!("/dashboard/organizations/{id}{rest}"));
            let mut answers = Vec::new();
            for path in [foreign, absent, none] {
                let answer = visitor.get(&path).await;
                let id = answer.header("X-Request-Id").unwrap().to_owned();
                answers.push((answer.status, text(&answer).replace(&id, "")));
            }
            assert_eq!(answers[0].0, 404);
            assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
        }
        assert_eq!(visitor.get("/dashboard/performance").await.status, 403);
        // To whoever sees everything, absent is absent as well.
        let admin = Visitor::with_key_of(&app.admin).await;
        assert_eq!(admin.get("/dashboard/organizations/01932f5e-8b6a-7c3d-9e1f-2a4b6c8d0e1f").await.status, 404);
        assert_eq!(admin.get("/dashboard/nothing").await.status, 404);
        assert_eq!(admin.get(&format!("/dashboard/organizations/{}/nothing", own.id)).await.status, 404);
        assert_eq!(admin.get("/dashboard/organizations?cursor=nonsense").await.status, 400);
    })
);

both_engines!(
    what_people_typed_is_shown_and_never_run,
    served(async |app| {
        let hostile = "<script>alert('x')</script>\"&<b>";
        let new = json!({ "name": hostile, "external_id": hostile });
        let made = app.admin.post("/v1/organizations").json(new).await.expect(201);
        let path = format!("/organizations/{}", made["id"].as_str().unwrap());
        let grant = json!({ "credits": { "ai": 9 }, "source": "purchase", "reference": hostile });
        app.admin.post(&format!("/v1{path}/grants")).json(grant).await.expect(201);
        let adjustment = json!({ "change": { "ai": -1 }, "reason": hostile });
        app.admin.post(&format!("/v1{path}/adjustments")).json(adjustment).await.expect(201);
        let spent = json!({ "action": "ai_chat", "actor": hostile });
        app.admin.post(&format!("/v1{path}/consume")).json(spent).await.expect(201);
        let refused = json!({ "action": "sms", "actor": hostile });
        app.admin.post(&format!("/v1{path}/consume")).json(refused).await.refused(402, "insufficient_credits");
        let hold = json!({ "action": "ai_chat", "actor": hostile });
        app.admin.post(&format!("/v1{path}/holds")).json(hold).await.expect(201);
        let visitor = Visitor::with_key_of(&app.admin).await;
        let search = format!("?q={}", escape(hostile));
        for page in [
            String::new(),
            format!("/organizations{search}"),
            path.clone(),
            format!("{path}/lots"),
            format!("{path}/holds"),
            format!("{path}/statement"),
            format!("{path}/usage"),
        ] {
            // That there is no `<script` anywhere is asserted of every page.
            let page = visitor.page(&format!("/dashboard{page}")).await;
            assert!(page.contains("&#60;script&#62;alert") && !page.contains("<b>"), "{page}");
        }
    })
);

both_engines!(
    the_style_and_the_icon_are_kept_by_browsers_for_good,
    served(async |app| {
        let page = text(&app.stranger().get("/dashboard/login").await);
        let assets: Vec<&str> = page.split('"').filter(|part| part.starts_with("/dashboard/assets/")).collect();
        assert!(assets.len() >= 2, "{page}");
        for asset in assets {
            let answer = app.stranger().get(asset).await;
            assert_eq!(answer.status, 200, "{answer}");
            assert!(answer.header("Cache-Control").unwrap().contains("immutable"));
            let tag = answer.header("ETag").unwrap().to_owned();
            let again = app.stranger().get(asset).header("If-None-Match", &tag).await;
            assert_eq!((again.status, again.body.len()), (304, 0));
        }
        assert_eq!(app.stranger().get("/dashboard/assets/style.css").await.status, 404);
        // A cookie that is none leads to the form.
        let forged = Visitor { client: app.stranger(), token: "mc_forged".to_owned() };
        assert_eq!(forged.get("/dashboard").await.header("Location"), Some("/dashboard/login?ended=1"));
        assert!(!page.contains(COOKIE_NAME));
    })
);
