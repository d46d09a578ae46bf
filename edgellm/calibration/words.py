"""Word tables of the calibration text: subjects with what they have, do and need, in English and Chinese.

A subject area is six lines of words: people, things, places, verbs, qualities, ideas. Written for edgellm.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Field:
    """A subject area: what may stand in each place of a sentence."""

    people: tuple[str, ...]
    things: tuple[str, ...]
    places: tuple[str, ...]
    verbs: tuple[str, ...]  # past tense in English, plain in Chinese
    qualities: tuple[str, ...]
    ideas: tuple[str, ...]


def words(line: str) -> tuple[str, ...]:
    """Words separated by a comma and a space."""
    return tuple(line.split(", "))


def fields(table: str) -> tuple[Field, ...]:
    """Subject areas, separated by blank lines."""
    return tuple(Field(*map(words, area.splitlines())) for area in table.strip().split("\n\n"))


ENGLISH = fields("""
biologist, field researcher, student of botany, museum curator
beetle, coral reef, seed bank, microscope, river delta, moss garden
wetland, greenhouse, mountain laboratory, tidal pool
catalogued, sampled, photographed, compared, dissected
rare, translucent, nocturnal, drought-resistant, symbiotic
biodiversity, natural selection, the carbon cycle, animal behavior

surgeon, nurse, pharmacist, physical therapist
vaccine, stethoscope, blood sample, treatment plan, hearing aid
clinic, emergency ward, rural hospital, pharmacy
diagnosed, treated, monitored, prescribed, examined
chronic, contagious, painless, routine, experimental
public health, infection control, the immune system, patient safety

judge, tenant, tax adviser, notary
contract, verdict, patent claim, building permit, witness statement
courtroom, city hall, land registry, archive
signed, appealed, amended, rejected, negotiated
binding, confidential, retroactive, ambiguous, lawful
due process, intellectual property, the burden of proof, consumer protection

baker, chef, farmer, grandmother
sourdough loaf, pepper stew, orange marmalade, noodle soup, goat cheese
market hall, village kitchen, orchard, tea house
kneaded, simmered, roasted, harvested, seasoned
crisp, fragrant, bitter, tender, freshly ground
fermentation, seasonal cooking, food storage, the art of frying

engineer, welder, architect, crane operator
suspension bridge, steam turbine, gearbox, elevator shaft, solar panel
construction site, shipyard, wind farm, test track
assembled, calibrated, reinforced, dismantled, inspected
load-bearing, corroded, modular, airtight, overheated
structural fatigue, energy efficiency, quality control, fire safety

programmer, system administrator, data analyst, security auditor
database index, compiler, message queue, neural network, backup server
data center, open office, version control repository, test environment
refactored, deployed, benchmarked, encrypted, debugged
asynchronous, immutable, deprecated, thread-safe, quantized
cache locality, type inference, fault tolerance, least privilege

historian, sailor, queen, translator
treaty, clay tablet, merchant fleet, fortress, printing press
harbor town, royal court, border province, monastery
besieged, explored, inherited, translated, abolished
medieval, prosperous, exiled, illiterate, ceremonial
colonial trade, land reform, the invention of writing, religious tolerance

painter, cellist, poet, stage director
watercolor, string quartet, marble statue, short story, puppet theater
concert hall, studio, gallery, open-air stage
rehearsed, sketched, composed, restored, performed
melancholy, abstract, unfinished, playful, celebrated
counterpoint, perspective, the role of the narrator, improvisation

goalkeeper, cyclist, climbing instructor, referee
penalty kick, relay baton, mountain bike, chess clock, training schedule
stadium, velodrome, ski slope, swimming hall
defended, overtook, trained for, missed, postponed
exhausted, undefeated, amateur, slippery, decisive
endurance, fair play, team tactics, recovery after injury

banker, shopkeeper, economist, insurance agent
mortgage, spare part, annual report, exchange rate, pension fund
stock exchange, trade fair, warehouse, customs office
invested, exported, insured, audited, auctioned
overdue, profitable, volatile, tax-free, wholesale
inflation, supply and demand, compound interest, risk sharing

astronomer, pilot, meteorologist, mission planner
telescope mirror, weather balloon, lunar rover, barometer, flight recorder
observatory, launch pad, polar station, control tower
observed, launched, predicted, measured, simulated
orbital, turbulent, faint, supersonic, cloudless
gravity, atmospheric pressure, the expansion of the universe, navigation by stars

teacher, librarian, apprentice, school principal
dictionary, homework notebook, exam paper, science project, wall map
classroom, evening school, reading room, workshop
explained, graded, borrowed, memorized, repeated
patient, curious, bilingual, absent-minded, gifted
reading comprehension, mental arithmetic, learning by doing, the history of science
""")

CHINESE = fields("""
医生, 护士, 药剂师, 病人家属
疫苗, 体检报告, 血压计, 处方, 急救箱
县医院, 社区诊所, 急诊室, 实验室
检查, 治疗, 记录, 比较, 解释
慢性的, 安全的, 常见的, 难以察觉的
公共卫生, 免疫系统, 睡眠与健康, 用药安全

工程师, 焊工, 建筑师, 质检员
吊桥, 发动机, 变压器, 太阳能板, 齿轮箱
工地, 造船厂, 试验场, 变电站
设计, 安装, 检测, 加固, 拆除
耐腐蚀的, 模块化的, 过热的, 高精度的
结构强度, 节能减排, 质量控制, 消防安全

程序员, 数据分析师, 系统管理员, 测试人员
数据库索引, 编译器, 消息队列, 神经网络, 备份服务器
机房, 代码仓库, 测试环境, 办公室
重构, 部署, 调试, 加密, 优化
异步的, 只读的, 过时的, 线程安全的
缓存命中率, 类型推断, 容错设计, 最小权限原则

历史学家, 使者, 皇帝, 船长
条约, 竹简, 丝绸, 瓷器, 城墙
港口, 边境, 古都, 寺庙
修建, 翻译, 继承, 记载, 废除
古老的, 繁荣的, 失传的, 隆重的
丝绸之路, 土地制度, 活字印刷, 文化交流

农民, 厨师, 面包师, 奶奶
豆腐, 红烧鱼, 面条, 柿子, 腊肉
菜市场, 果园, 厨房, 茶馆
采摘, 腌制, 蒸煮, 晾晒, 品尝
新鲜的, 酥脆的, 微苦的, 热腾腾的
发酵, 节气与饮食, 食物保存, 火候

画家, 诗人, 导演, 小提琴手
水墨画, 短篇小说, 话剧, 雕像, 民歌
美术馆, 剧院, 画室, 音乐厅
创作, 排练, 修复, 演奏, 朗诵
忧伤的, 未完成的, 抽象的, 生动的
留白, 叙述者的视角, 节奏, 即兴表演

老师, 学生, 图书管理员, 校长
词典, 作业本, 地图, 试卷, 望远镜
教室, 图书馆, 操场, 科技馆
讲解, 背诵, 借阅, 批改, 观察
好奇的, 耐心的, 双语的, 粗心的
阅读理解, 心算, 科学方法, 学习习惯

律师, 法官, 房东, 会计
合同, 判决书, 专利, 发票, 遗嘱
法院, 银行, 档案馆, 海关
签署, 审核, 修改, 驳回, 公证
有效的, 保密的, 含糊的, 逾期的
举证责任, 知识产权, 通货膨胀, 消费者权益

天文学家, 飞行员, 气象员, 渔民
卫星, 气压计, 火箭, 航海图, 雷达
观测站, 机场, 海岛, 发射场
观测, 预报, 测量, 模拟, 追踪
微弱的, 晴朗的, 超音速的, 多变的
引力, 大气压力, 潮汐, 宇宙的起源

运动员, 教练, 裁判, 登山者
足球, 接力棒, 自行车, 训练计划, 冰镐
体育场, 雪山, 泳池, 健身房
防守, 超越, 训练, 推迟, 坚持
疲惫的, 不败的, 业余的, 关键的
耐力, 公平竞争, 团队配合, 运动损伤
""")

NAMES = words(
    "Amara Okafor, Lena Hoffmann, Rafael Souza, Priya Nair, Tom Becker, Yuki Tanaka, Fatima Haddad, Olga Petrova, "
    "Daniel Kim, Grace Mwangi, Ivan Horvat, Sofia Rossi, Noah Williams, Ingrid Larsen, Mateo Vargas, Hannah Levi"
)
CHINESE_NAMES = words("王小明, 李建国, 陈思雨, 赵子涵, 周立波, 林雅婷, 黄志强, 孙晓梅, 吴浩然, 郑雨桐")
CITIES = words(
    "Lisbon, Nairobi, Chengdu, Montreal, Hamburg, Osaka, Cusco, Tallinn, Jaipur, Adelaide, Oslo, Accra"
)
CHINESE_CITIES = words("成都, 西安, 广州, 哈尔滨, 昆明, 青岛, 杭州, 兰州, 厦门, 拉萨")
MONTHS = words(
    "January, February, March, April, May, June, July, August, September, October, November, December"
)
IDENTIFIERS = words(
    "account, buffer, cursor, delta, entry, frame, graph, handle, index, job, kernel, limit, matrix, node, offset, "
    "packet, queue, record, score, token, user, vector, weight, batch, cache, event"
)
ACTIONS = words("load, parse, merge, update, filter, encode, find, reset, split, validate, insert, flush")
