"""Ad hoc: check's verdict against the node, on many changed bags."""
import sys, importlib.util, pytest, itertools
from pathlib import Path
sys.path.insert(0,"/work/main/ros2_ws/src/wpt_replay/test")
import test_check as T
from wpt_replay.line_run import run_line, PLANNER_NODE
from wpt_replay.replay_report import ReplayOptions
from wpt_replay.replay_cli import main
from wpt_replay.bag_writer import reliable
from wpt_msgs.msg import SetReport
import numpy as np
pytestmark=pytest.mark.node
I,N,O=T.IMAGES,T.INFOS,T.ODOMETRY
def info(f, topics=N[1:2]):
    def a(t,ns,m):
        if t in topics: f(m)
        return t,ns,m
    return a
def drop(*ts): return lambda t,ns,m: None if t in ts else (t,ns,m)
def tf(f):
    def a(t,ns,m):
        if t=="/tf_static": m.transforms=[n for o in m.transforms if (n:=f(o)) is not None]
        return t,ns,m
    return a
def odom(f): return info(f,(O,))
def zero(t,ns,m): return t,ns,(T.stamped(m,0) if t in I else m)
def emptyframe(t,ns,m):
    if t in I: m.header.frame_id=""
    return t,ns,m
def cut(t,ns,m):
    if t==I[0]: m.data=np.array(m.data[:len(m.data)//2])
    return t,ns,m
def late(ms): return lambda t,ns,m:(t,ns+ms*10**6,m)
def sparse():
    kept=[]
    def a(t,ns,m):
        if t==O:
            if kept and ns-kept[-1]<400*10**6: return None
            kept.append(ns)
        return t,ns,m
    return a
def stagger(bag):
    counts={}; start=T.first_stamp(bag)
    def a(t,ns,m):
        if t not in (*I,*N): return t,ns,m
        names=I if t in I else N
        counts[t]=counts.get(t,-1)+1
        s=start+counts[t]*84*10**6+names.index(t)*14*10**6
        return t,s,T.stamped(m,s)
    return a
CASES={"well":lambda t,ns,m:(t,ns,m),"noinfo":drop(*N),"nocam":drop(I[3]),"noodom":drop(O),"notf":drop("/tf_static"),"nocmd":drop("/planning/command"),
"stereo":info(T.stereo),"nan":info(T.nan),"uncal":info(T.uncalibrated),"noP":info(T.no_projection),"otherres":info(T.other_resolution),"othersize":info(T.other_size),"otherframe":info(T.other_frame),
"link":tf(lambda t: None if t.child_frame_id=="cam_back" else t),"inverted":tf(lambda t:T.inverted(t) if t.child_frame_id=="cam_back" else t),
"zero":zero,"emptyframe":emptyframe,"cut":cut,"late200":late(200),"late800":late(800),"late2h":late(7200000),"sparse":sparse(),"stagger":"stagger",
"kmh":odom(T.in_kmh),"notwist":odom(T.without_twist),"unknownframe":odom(T.of_an_unknown_frame),"quat":odom(T.half_a_quaternion)}
@pytest.mark.parametrize("name",list(CASES))
def test_agree(name, factory_bag, rewrite_bag, tmp_path, capsys):
    c=CASES[name]
    if c=="stagger": c=stagger(factory_bag)
    bag=rewrite_bag(factory_bag,c)
    code=main(["check","--bag",str(bag)])
    out=capsys.readouterr().out
    fails=[l for l in out.splitlines() if l.startswith("FAIL")]
    try:
        run=run_line(bag,"constant_velocity",lockstep=True,options=ReplayOptions(lockstep=True,planner=PLANNER_NODE,wait_timeout_s=20.0,report_timeout_s=1.0),log=tmp_path/"l")
        planned=sum(r.outcome==SetReport.PLANNED for r in run.reports)
        reasons={r.reason[:150] for r in run.set_reports if r.outcome!=SetReport.PLANNED}
    except Exception as e:
        planned=0; reasons={str(e)[:200]}
    with open("/tmp/check/agree.txt","a") as f:
        f.write(f"{name:12} check {code} planned {planned}\n" + "".join(f"      C {l[:260]}\n" for l in fails) + "".join(f"      N {r}\n" for r in list(reasons)[:2]))
