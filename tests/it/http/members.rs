//! `/v1/organizations/{organization_id}/members` and `/v1/users/{user_id}/organizations`.

use serde_json::{Value, json};
use tests::app::{served, served_at};
use tests::both_engines;

use super::column;

const NOW: &str = "2026-11-22T09:00:00Z";

both_engines!(
    a_member_is_made_changed_and_no_member_any_more,
    served_at(NOW, async |app, _| {
        let acme = app.organization("acme", json!({})).await;
        let path = acme.path("/members/user-42");
        let member = |role: &str| json!({ "user_id": "user-42", "role": role, "created_at": NOW });
        assert_eq!(app.admin.put(&path).await.expect(200), member("member"));
        for role in ["admin", "member", "billing", "owner"] {
            assert_eq!(app.admin.put(&path).json(json!({ "role": role })).await.expect(200), member(role));
        }
        assert_eq!(app.admin.all(&acme.path("/members"), 10).await, [member("owner")]);
        app.admin.delete(&path).await.expect(204);
        app.admin.delete(&path).await.refused(404, "not_found");
        assert_eq!(app.admin.all(&acme.path("/members"), 10).await, Vec::<Value>::new());
    })
);

both_engines!(
    members_are_listed_page_by_page_and_a_user_knows_their_organizations,
    served(async |app| {
        let (acme, other) = (app.organization("acme", json!({})).await, app.organization("other", json!({})).await);
        for user in ["u3", "u1", "u2"] {
            app.admin.put(&acme.path(&format!("/members/{user}"))).await.expect(200);
        }
        app.admin.put(&other.path("/members/u2")).json(json!({ "role": "owner" })).await.expect(200);
        for limit in [1, 2, 100] {
            assert_eq!(column(&app.admin.all(&acme.path("/members"), limit).await, "user_id"), ["u1", "u2", "u3"]);
            let of_user = app.admin.all("/v1/users/u2/organizations", limit).await;
            assert_eq!(column(&of_user, "organization_id"), [json!(acme.id), json!(other.id)]);
            assert_eq!(column(&of_user, "role"), ["member", "owner"]);
        }
        assert_eq!(app.admin.all("/v1/users/nobody/organizations", 10).await, Vec::<Value>::new());
    })
);

both_engines!(
    a_user_may_be_called_anything_that_a_path_can_say,
    served(async |app| {
        let acme = app.organization("acme", json!({})).await;
        for (user, segment) in [
            ("auth0|a/b c", "auth0%7Ca%2Fb%20c"),
            ("ü@example.com", "%C3%BC@example.com"),
            (".", "%2E"),
            ("a+b", "a+b"),
        ] {
            let member = app.admin.put(&acme.path(&format!("/members/{segment}"))).await.expect(200);
            assert_eq!(member["user_id"], user);
            let of_user = app.admin.all(&format!("/v1/users/{segment}/organizations"), 10).await;
            assert_eq!(column(&of_user, "organization_id"), [json!(acme.id)], "{user}");
            app.admin.delete(&acme.path(&format!("/members/{segment}"))).await.expect(204);
        }
        for bad in ["%00", "a%00b", "%FF", "%0A", &"u".repeat(201)] {
            app.admin.put(&acme.path(&format!("/members/{bad}"))).await.refused(400, "invalid_request");
            app.admin.get(&format!("/v1/users/{bad}/organizations")).await.refused(400, "invalid_request");
        }
        for bad in [json!({ "role": "" }), json!({ "role": 1 }), json!({ "roles": ["owner"] })] {
            app.admin.put(&acme.path("/members/u")).json(bad).await.refused(400, "invalid_request");
        }
        assert_eq!(app.admin.all(&acme.path("/members"), 10).await, Vec::<Value>::new());
    })
);
