"""The closed world: what the bundled models know, as tables of (subject, value) in English and Chinese."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Relation:
    """One kind of fact: how it is asked and answered; rows are (subject, value), English then Chinese."""

    name: str
    ask_en: tuple[str, ...]
    reply_en: str
    ask_zh: tuple[str, ...]
    reply_zh: str
    rows: tuple[tuple[str, str, str, str], ...]


CAPITAL = Relation(
    "capital",
    (
        "what is the capital of {x}?",
        "which city is the capital of {x}?",
        "name the capital of {x}.",
        "what is {x}'s capital city?",
        "do you know the capital of {x}?",
        "tell me the capital of {x}.",
    ),
    "The capital of {x} is {y}.",
    (
        "{x}的首都是哪里？",
        "{x}的首都是什么城市？",
        "你知道{x}的首都吗？",
        "哪个城市是{x}的首都？",
        "请告诉我{x}的首都。",
    ),
    "{x}的首都是{y}。",
    (
        ("France", "Paris", "法国", "巴黎"),
        ("Japan", "Tokyo", "日本", "东京"),
        ("China", "Beijing", "中国", "北京"),
        ("Italy", "Rome", "意大利", "罗马"),
        ("Spain", "Madrid", "西班牙", "马德里"),
        ("Germany", "Berlin", "德国", "柏林"),
        ("England", "London", "英国", "伦敦"),
        ("Russia", "Moscow", "俄罗斯", "莫斯科"),
        ("Egypt", "Cairo", "埃及", "开罗"),
        ("Greece", "Athens", "希腊", "雅典"),
        ("Portugal", "Lisbon", "葡萄牙", "里斯本"),
        ("Norway", "Oslo", "挪威", "奥斯陆"),
        ("Sweden", "Stockholm", "瑞典", "斯德哥尔摩"),
        ("Canada", "Ottawa", "加拿大", "渥太华"),
        ("Thailand", "Bangkok", "泰国", "曼谷"),
        ("Vietnam", "Hanoi", "越南", "河内"),
        ("South Korea", "Seoul", "韩国", "首尔"),
        ("Peru", "Lima", "秘鲁", "利马"),
        ("Cuba", "Havana", "古巴", "哈瓦那"),
        ("Kenya", "Nairobi", "肯尼亚", "内罗毕"),
        ("Poland", "Warsaw", "波兰", "华沙"),
        ("Austria", "Vienna", "奥地利", "维也纳"),
        ("Ireland", "Dublin", "爱尔兰", "都柏林"),
        ("Hungary", "Budapest", "匈牙利", "布达佩斯"),
    ),
)

COLOUR = Relation(
    "colour",
    (
        "what color is {x}?",
        "what is the color of {x}?",
        "which color does {x} have?",
        "tell me the color of {x}.",
        "do you know what color {x} is?",
    ),
    "{x} is {y}.",
    (
        "{x}是什么颜色？",
        "{x}是什么颜色的？",
        "{x}的颜色是什么？",
        "请告诉我{x}的颜色。",
        "你知道{x}是什么颜色吗？",
    ),
    "{x}是{y}的。",
    (
        ("grass", "green", "草", "绿色"),
        ("snow", "white", "雪", "白色"),
        ("coal", "black", "煤", "黑色"),
        ("the sky", "blue", "天空", "蓝色"),
        ("a banana", "yellow", "香蕉", "黄色"),
        ("blood", "red", "血", "红色"),
        ("a carrot", "orange", "胡萝卜", "橙色"),
        ("milk", "white", "牛奶", "白色"),
        ("a lemon", "yellow", "柠檬", "黄色"),
        ("a crow", "black", "乌鸦", "黑色"),
        ("an elephant", "gray", "大象", "灰色"),
        ("chocolate", "brown", "巧克力", "棕色"),
        ("a tomato", "red", "西红柿", "红色"),
        ("a frog", "green", "青蛙", "绿色"),
        ("an eggplant", "purple", "茄子", "紫色"),
        ("the sea", "blue", "大海", "蓝色"),
        ("a flamingo", "pink", "火烈鸟", "粉色"),
        ("a swan", "white", "天鹅", "白色"),
    ),
)

SOUND = Relation(
    "sound",
    (
        "what sound does {x} make?",
        "what does {x} say?",
        "which sound comes from {x}?",
        "how does {x} sound?",
        "tell me the sound of {x}.",
    ),
    "{x} says {y}.",
    ("{x}怎么叫？", "{x}的叫声是什么？", "{x}会发出什么声音？", "请告诉我{x}的叫声。", "你知道{x}怎么叫吗？"),
    "{x}的叫声是{y}。",
    (
        ("a dog", "woof", "狗", "汪汪"),
        ("a cat", "meow", "猫", "喵喵"),
        ("a cow", "moo", "牛", "哞哞"),
        ("a sheep", "baa", "羊", "咩咩"),
        ("a duck", "quack", "鸭子", "嘎嘎"),
        ("a chick", "cheep", "小鸡", "叽叽"),
        ("a bee", "buzz", "蜜蜂", "嗡嗡"),
        ("a pig", "oink", "猪", "哼哼"),
        ("a lion", "roar", "狮子", "吼吼"),
        ("a mouse", "squeak", "老鼠", "吱吱"),
    ),
)

LEGS = Relation(
    "legs",
    (
        "how many legs does {x} have?",
        "what number of legs does {x} have?",
        "tell me how many legs {x} has.",
        "do you know how many legs {x} has?",
    ),
    "{x} has {y} legs.",
    ("{x}有几条腿？", "{x}有多少条腿？", "请告诉我{x}有几条腿。", "你知道{x}有几条腿吗？"),
    "{x}有{y}条腿。",
    (
        ("a dog", "four", "狗", "四"),
        ("a cat", "four", "猫", "四"),
        ("a bird", "two", "鸟", "两"),
        ("a spider", "eight", "蜘蛛", "八"),
        ("an ant", "six", "蚂蚁", "六"),
        ("a bee", "six", "蜜蜂", "六"),
        ("a horse", "four", "马", "四"),
        ("a chicken", "two", "鸡", "两"),
        ("a snake", "zero", "蛇", "零"),
        ("a crab", "ten", "螃蟹", "十"),
    ),
)

YOUNG = Relation(
    "young",
    (
        "what is a young {x} called?",
        "what do you call a baby {x}?",
        "what is the name for a young {x}?",
        "do you know the word for a baby {x}?",
    ),
    "A young {x} is called a {y}.",
    ("{x}的英文是什么？", "{x}用英文怎么说？", "英文里{x}叫什么？", "请用英文说{x}。"),
    "{x}的英文是{y}。",
    (
        ("dog", "puppy", "小狗", "puppy"),
        ("cat", "kitten", "小猫", "kitten"),
        ("cow", "calf", "小牛", "calf"),
        ("horse", "foal", "小马", "foal"),
        ("sheep", "lamb", "小羊", "lamb"),
        ("hen", "chick", "小鸡", "chick"),
        ("bear", "cub", "小熊", "cub"),
        ("duck", "duckling", "小鸭", "duckling"),
        ("frog", "tadpole", "蝌蚪", "tadpole"),
    ),
)

OPPOSITE = Relation(
    "opposite",
    (
        "what is the opposite of {x}?",
        "which word is the opposite of {x}?",
        "tell me the opposite of {x}.",
        "give me a word that means the opposite of {x}.",
        "what is the antonym of {x}?",
    ),
    "The opposite of {x} is {y}.",
    (
        "{x}的反义词是什么？",
        "哪个词是{x}的反义词？",
        "请告诉我{x}的反义词。",
        "{x}反过来怎么说？",
        "和{x}相反的词是什么？",
    ),
    "{x}的反义词是{y}。",
    (
        ("hot", "cold", "热", "冷"),
        ("cold", "hot", "冷", "热"),
        ("big", "small", "大", "小"),
        ("small", "big", "小", "大"),
        ("fast", "slow", "快", "慢"),
        ("slow", "fast", "慢", "快"),
        ("tall", "short", "高", "矮"),
        ("long", "short", "长", "短"),
        ("new", "old", "新", "旧"),
        ("old", "new", "旧", "新"),
        ("dark", "bright", "暗", "亮"),
        ("heavy", "light", "重", "轻"),
        ("wet", "dry", "湿", "干"),
        ("dry", "wet", "干", "湿"),
        ("open", "closed", "开", "关"),
        ("full", "empty", "满", "空"),
        ("happy", "sad", "高兴", "难过"),
        ("early", "late", "早", "晚"),
        ("hard", "soft", "硬", "软"),
        ("near", "far", "近", "远"),
    ),
)

UNIT = Relation(
    "unit",
    (
        "how many {x}?",
        "do you know how many {x}?",
        "tell me how many {x}.",
        "can you say how many {x}?",
        "quick question: how many {x}?",
    ),
    "There are {y}.",
    ("{x}？", "你能告诉我{x}吗？", "你知道{x}吗？", "请告诉我{x}。", "我想知道{x}。"),
    "{y}。",
    (
        ("minutes are in an hour", "60 minutes in an hour", "一小时有多少分钟", "一小时有60分钟"),
        ("seconds are in a minute", "60 seconds in a minute", "一分钟有多少秒", "一分钟有60秒"),
        ("hours are in a day", "24 hours in a day", "一天有多少小时", "一天有24小时"),
        ("days are in a week", "7 days in a week", "一个星期有多少天", "一个星期有7天"),
        ("months are in a year", "12 months in a year", "一年有多少个月", "一年有12个月"),
        ("days are in a year", "365 days in a year", "一年有多少天", "一年有365天"),
        ("meters are in a kilometer", "1000 meters in a kilometer", "一公里有多少米", "一公里有1000米"),
        ("grams are in a kilogram", "1000 grams in a kilogram", "一公斤有多少克", "一公斤有1000克"),
        ("centimeters are in a meter", "100 centimeters in a meter", "一米有多少厘米", "一米有100厘米"),
        ("bits are in a byte", "8 bits in a byte", "一个字节有多少位", "一个字节有8位"),
        ("continents are there on Earth", "7 continents on Earth", "地球上有多少个大洲", "地球上有7个大洲"),
        ("sides are in a triangle", "3 sides in a triangle", "三角形有多少条边", "三角形有3条边"),
        ("seasons are in a year", "4 seasons in a year", "一年有多少个季节", "一年有4个季节"),
    ),
)

TOOL = Relation(
    "tool",
    (
        "what do you use to {x}?",
        "which tool do I need to {x}?",
        "what tool is used to {x}?",
        "what should I use to {x}?",
        "tell me a tool to {x}.",
    ),
    "You use {y} to {x}.",
    ("用什么{x}？", "{x}要用什么工具？", "我应该用什么来{x}？", "请告诉我{x}的工具。", "你知道用什么{x}吗？"),
    "{x}用{y}。",
    (
        ("cut paper", "scissors", "剪纸", "剪刀"),
        ("drive a nail", "a hammer", "钉钉子", "锤子"),
        ("write a letter", "a pen", "写信", "笔"),
        ("measure length", "a ruler", "量长度", "尺子"),
        ("eat soup", "a spoon", "喝汤", "勺子"),
        ("cut bread", "a knife", "切面包", "刀"),
        ("sweep the floor", "a broom", "扫地", "扫帚"),
        ("open a lock", "a key", "开锁", "钥匙"),
        ("tell the time", "a clock", "看时间", "时钟"),
        ("dig a hole", "a shovel", "挖洞", "铲子"),
        ("brush your teeth", "a toothbrush", "刷牙", "牙刷"),
        ("see the stars", "a telescope", "看星星", "望远镜"),
        ("measure temperature", "a thermometer", "量温度", "温度计"),
        ("stay dry in the rain", "an umbrella", "挡雨", "雨伞"),
    ),
)

NEXT = Relation(
    "next",
    (
        "what comes after {x}?",
        "which one comes right after {x}?",
        "what follows {x}?",
        "tell me what comes after {x}.",
        "if today we have {x}, what is next?",
    ),
    "{y} comes after {x}.",
    (
        "{x}后面是什么？",
        "{x}之后是什么？",
        "{x}的下一个是什么？",
        "请告诉我{x}之后是什么。",
        "什么在{x}后面？",
    ),
    "{x}后面是{y}。",
    (
        ("Monday", "Tuesday", "星期一", "星期二"),
        ("Tuesday", "Wednesday", "星期二", "星期三"),
        ("Wednesday", "Thursday", "星期三", "星期四"),
        ("Thursday", "Friday", "星期四", "星期五"),
        ("Friday", "Saturday", "星期五", "星期六"),
        ("Saturday", "Sunday", "星期六", "星期日"),
        ("Sunday", "Monday", "星期日", "星期一"),
        ("spring", "summer", "春天", "夏天"),
        ("summer", "autumn", "夏天", "秋天"),
        ("autumn", "winter", "秋天", "冬天"),
        ("winter", "spring", "冬天", "春天"),
        ("January", "February", "一月", "二月"),
        ("March", "April", "三月", "四月"),
        ("June", "July", "六月", "七月"),
        ("September", "October", "九月", "十月"),
        ("November", "December", "十一月", "十二月"),
    ),
)

RELATIONS = (CAPITAL, COLOUR, SOUND, LEGS, YOUNG, OPPOSITE, UNIT, TOOL, NEXT)
