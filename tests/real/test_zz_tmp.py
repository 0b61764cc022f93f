import socket, threading, json, subprocess
from tests.real.stack import Stack
from tests.real.test_contents import answer_once
def test_x(tmp_path):
    st=Stack(tmp_path)
    try:
        bad=0
        for i in range(25):
            l=socket.create_server(("127.0.0.1",0)); port=l.getsockname()[1]
            t=threading.Thread(target=answer_once,args=(l,b"hello")); t.start()
            done=st.run(*st.ssh_argv("-W",f"127.0.0.1:{port}",st.host))
            t.join(5)
            if done.stdout!="hello":
                bad+=1; print(i, done)
        print("bad", bad)
        for r in st.connections("--limit","1000")[:200]:
            if r["connect_type"]=="agent_to_client":
                f=st.explain(r["id"])["forwards"]
                print(r["disconnect_cause"], [(x["end"],x["rx_bytes"],x["tx_bytes"]) for x in f])
    finally: st.close()
