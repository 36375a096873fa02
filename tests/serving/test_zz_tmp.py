def test_x(tmp_path):
    import lib.serving.server as s
    from pathlib import Path
    app = s.load_app(Path("apps/segmentation").absolute(), "sample-data/segmentation", {"data": str(tmp_path/"d")})
    app.look()
    print(app.info())
    from starlette.testclient import TestClient
    c = TestClient(s.create_server(app), base_url="http://127.0.0.1")
    print(c.get("/info/").status_code, c.get("/").text[:100])
