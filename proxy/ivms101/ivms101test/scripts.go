package ivms101test

// script is a way of writing, with people, companies and places in it. None of
// the people is real.
type script struct {
	name      string
	country   string
	method    string // of transliteration, "" for Latin
	people    []spelling
	companies []spelling // primary only
	towns     []spelling // primary only
	streets   []string
}

// spelling is a name in its own script and in Latin letters.
type spelling struct{ primary, secondary, latin, latinSecondary string }

// Joiners and direction hints that names need, and that stay in them
// (U+200C to U+200F).
const (
	zwnj = "\u200c"
	zwj  = "\u200d"
	lrm  = "\u200e"
	rlm  = "\u200f"
)

// scripts are the ways of writing that payloads come in.
var scripts = []script{
	{"Latin", "FR", "", []spelling{{"Brontë-Lefèvre", "Zoë Chloé", "", ""}, {"O’Súilleabháin", "Séamus", "", ""}, {"Łęcka", "Małgorzata", "", ""}, {"Nguyễn", "Thị Hồng", "", ""}, {"Đorđević", "Željko", "", ""}, {"Jóhannsdóttir", "Þórunn", "", ""}},
		[]spelling{{"Éclair & Fils S.A.", "", "", ""}, {"Straßen/Bau GmbH", "", "", ""}, {"\"Quoted\" \\ Back Ltd", "", "", ""}}, []spelling{{"Besançon", "", "", ""}, {"Łódź", "", "", ""}}, []string{"Rue de l’Été", "Königstraße", "Calle Muñoz"}},
	{"Hangul", "KR", "kore", []spelling{{"김", "철수", "Kim", "Cheolsu"}, {"이", "영희", "Lee", "Younghee"}, {"박", "지훈", "Park", "Jihoon"}, {"남궁", "민서", "Namgung", "Minseo"}},
		[]spelling{{"한빛거래소 주식회사", "", "Hanbit Exchange Co., Ltd.", ""}, {"바람결 ㈜", "", "Baramgyeol Inc.", ""}}, []spelling{{"서울특별시", "", "Seoul", ""}, {"부산광역시", "", "Busan", ""}}, []string{"세종대로", "테헤란로"}},
	{"Han", "CN", "hani", []spelling{{"欧阳", "娜娜", "Ouyang", "Nana"}, {"王", "秀英", "Wang", "Xiuying"}, {"𠮷田", "龘", "Jitian", "Da"}},
		[]spelling{{"上海浦江贸易有限公司", "", "Shanghai Pujiang Trading Co.", ""}}, []spelling{{"上海市", "", "Shanghai", ""}, {"重慶", "", "Chongqing", ""}}, []string{"南京东路", "人民路"}},
	{"Kana", "JP", "kana", []spelling{{"サトウ", "ハナコ", "Sato", "Hanako"}, {"ガルシア", "ペドロ", "Garcia", "Pedro"}, {"たなか", "じろう", "Tanaka", "Jiro"}},
		[]spelling{{"株式会社サクラトレード", "", "Sakura Trade K.K.", ""}}, []spelling{{"東京都", "", "Tokyo", ""}, {"さいたま市", "", "Saitama", ""}}, []string{"千代田1丁目", "ゆりのき通り"}},
	{"Cyrillic", "UA", "cyrl", []spelling{{"Їжакевич", "Олена", "Yizhakevych", "Olena"}, {"Щербаков", "Пётр", "Shcherbakov", "Pyotr"}, {"Ђорђевић", "Љиљана", "Djordjevic", "Ljiljana"}},
		[]spelling{{"ТОВ «Світанок»", "", "Svitanok LLC", ""}}, []spelling{{"Київ", "", "Kyiv", ""}, {"Йошкар-Ола", "", "Yoshkar-Ola", ""}}, []string{"вулиця Хрещатик", "Невский проспект"}},
	{"Arabic", "AE", "arab", []spelling{{"بن عبد الله", "محمد", "bin Abdullah", "Mohammed"}, {"الحُسَيْنِي", "فاطمة", "Al Husseini", "Fatima"}, {rlm + "النجار" + lrm, "يوسف", "Al Najjar", "Yousef"}},
		[]spelling{{"شركة النور للتجارة ذ.م.م", "", "Al Noor Trading LLC", ""}}, []spelling{{"دبي", "", "Dubai", ""}, {"أبو ظبي", "", "Abu Dhabi", ""}}, []string{"شارع الشيخ زايد", "شارع الملك"}},
	{"Persian", "IR", "aran", []spelling{{"علی" + zwnj + "پور", "مه" + zwnj + "لقا", "Alipour", "Mahlagha"}, {"رضایی", "آرش", "Rezaei", "Arash"}, {"خان" + zwnj + "زاده", "گلی", "Khanzadeh", "Goli"}},
		[]spelling{{"شرکت نرم" + zwnj + "افزار آسمان", "", "Aseman Software Co.", ""}}, []spelling{{"تهران", "", "Tehran", ""}, {"نجف" + zwnj + "آباد", "", "Najafabad", ""}}, []string{"خیابان ولی" + zwnj + "عصر"}},
	{"Hebrew", "IL", "hebr", []spelling{{"לוי", "שָׂרָה", "Levi", "Sarah"}, {rlm + "בן־דוד", "יהונתן", "Ben David", "Yehonatan"}, {"כץ", "אביגיל", "Katz", "Avigail"}},
		[]spelling{{"אלון סחר בע\"מ", "", "Alon Trade Ltd.", ""}}, []spelling{{"תל אביב־יפו", "", "Tel Aviv-Yafo", ""}, {"חיפה", "", "Haifa", ""}}, []string{"שדרות רוטשילד", "רחוב הרצל"}},
	{"Devanagari", "IN", "deva", []spelling{{"शर्मा", "अनुष्का", "Sharma", "Anushka"}, {"क्षत्रिय", "ज्ञानेश्वर", "Kshatriya", "Dnyaneshwar"}, {"श्री" + zwj + "वास्तव", "कृष्ण", "Srivastava", "Krishna"}},
		[]spelling{{"भारत व्यापार प्रा. लि.", "", "Bharat Vyapar Pvt. Ltd.", ""}}, []spelling{{"मुम्बई", "", "Mumbai", ""}, {"नई दिल्ली", "", "New Delhi", ""}}, []string{"महात्मा गांधी मार्ग"}},
	{"Thai", "TH", "thai", []spelling{{"ศรีสุข", "สมชาย", "Srisuk", "Somchai"}, {"ณ อยุธยา", "ปิ่นแก้ว", "Na Ayutthaya", "Pinkaew"}},
		[]spelling{{"บริษัท น้ำใส จำกัด", "", "Namsai Co., Ltd.", ""}}, []spelling{{"กรุงเทพมหานคร", "", "Bangkok", ""}, {"เชียงใหม่", "", "Chiang Mai", ""}}, []string{"ถนนสุขุมวิท"}},
	{"Greek", "GR", "grek", []spelling{{"Παπαδόπουλος", "Γεώργιος", "Papadopoulos", "Georgios"}, {"Ὀδυσσεύς", "Ἑλένη", "Odysseus", "Eleni"}},
		[]spelling{{"Αιγαίο Α.Ε.", "", "Aegean S.A.", ""}}, []spelling{{"Αθήνα", "", "Athens", ""}, {"Θεσσαλονίκη", "", "Thessaloniki", ""}}, []string{"Οδός Ερμού"}},
	{"Georgian", "GE", "geor", []spelling{{"ჯავახიშვილი", "ნინო", "Javakhishvili", "Nino"}, {"ბერიძე", "გიორგი", "Beridze", "Giorgi"}},
		[]spelling{{"შპს მზიური", "", "Mziuri LLC", ""}}, []spelling{{"თბილისი", "", "Tbilisi", ""}}, []string{"რუსთაველის გამზირი"}},
	{"Armenian", "AM", "armn", []spelling{{"Սարգսյան", "Անահիտ", "Sargsyan", "Anahit"}, {"Պետրոսյան", "Արմեն", "Petrosyan", "Armen"}},
		[]spelling{{"«Արարատ» ՍՊԸ", "", "Ararat LLC", ""}}, []spelling{{"Երևան", "", "Yerevan", ""}}, []string{"Աբովյան փողոց"}},
	{"Bengali", "BD", "othr", []spelling{{"চৌধুরী", "অনন্যা", "Chowdhury", "Ananya"}, {"মুখোপাধ্যায়", "শুভঙ্কর", "Mukhopadhyay", "Shubhankar"}},
		[]spelling{{"সোনালী ট্রেডিং লিমিটেড", "", "Sonali Trading Ltd.", ""}}, []spelling{{"ঢাকা", "", "Dhaka", ""}}, []string{"বঙ্গবন্ধু সড়ক"}},
	{"Tamil", "LK", "othr", []spelling{{"சுப்பிரமணியன்", "மீனாட்சி", "Subramanian", "Meenakshi"}, {"கிருஷ்ணன்", "அருண்", "Krishnan", "Arun"}},
		[]spelling{{"தாமரை வணிகம்", "", "Thamarai Trade", ""}}, []spelling{{"யாழ்ப்பாணம்", "", "Jaffna", ""}}, []string{"அண்ணா சாலை"}},
	{"Telugu", "IN", "othr", []spelling{{"వేంకటేశ్వరరావు", "శ్రీలక్ష్మి", "Venkateswara Rao", "Srilakshmi"}},
		[]spelling{{"గోదావరి ట్రేడర్స్", "", "Godavari Traders", ""}}, []spelling{{"హైదరాబాదు", "", "Hyderabad", ""}}, []string{"బంజారా హిల్స్"}},
	{"Khmer", "KH", "othr", []spelling{{"សុខ", "ចាន់ដារ៉ា", "Sok", "Chandara"}, {"ហេង", "ស្រីនាង", "Heng", "Sreyneang"}},
		[]spelling{{"ក្រុមហ៊ុន អង្គរ", "", "Angkor Company", ""}}, []spelling{{"ភ្នំពេញ", "", "Phnom Penh", ""}}, []string{"មហាវិថី នរោត្តម"}},
	{"Lao", "LA", "othr", []spelling{{"ພົມມະຈັນ", "ບຸນມີ", "Phommachan", "Bounmy"}},
		[]spelling{{"ບໍລິສັດ ດອກຈຳປາ", "", "Dok Champa Co.", ""}}, []spelling{{"ວຽງຈັນ", "", "Vientiane", ""}}, []string{"ຖະໜົນ ລ້ານຊ້າງ"}},
	{"Myanmar", "MM", "othr", []spelling{{"အောင်ဆန်း", "မြင့်မြင့်", "Aung San", "Myint Myint"}, {"ကျော်သူ", "ခင်", "Kyaw Thu", "Khin"}},
		[]spelling{{"ရွှေပြည် ကုမ္ပဏီ", "", "Shwe Pyi Company", ""}}, []spelling{{"ရန်ကုန်", "", "Yangon", ""}}, []string{"ပြည်လမ်း"}},
	{"Ethiopic", "ET", "othr", []spelling{{"ገብረማርያም", "ጽዮን", "Gebremariam", "Tsion"}, {"ተስፋዬ", "አበበ", "Tesfaye", "Abebe"}},
		[]spelling{{"አዲስ ንግድ ኃ.የተ.የግ.ማ", "", "Addis Trade PLC", ""}}, []spelling{{"አዲስ አበባ", "", "Addis Ababa", ""}}, []string{"ቦሌ መንገድ"}},
	{"Mongolian", "MN", "othr", []spelling{{"ᠪᠠᠲᠤ", "ᠴᠡᠴᠡᠭ", "Bat", "Tsetseg"}, {"ᠳᠣᠷᠵᠢ", "ᠰᠠᠷᠠᠨ", "Dorj", "Saran"}},
		[]spelling{{"ᠲᠡᠩᠷᠢ", "", "Tengri LLC", ""}}, []spelling{{"Улаанбаатар", "", "Ulaanbaatar", ""}}, []string{"Энхтайваны өргөн чөлөө"}},
	{"Sinhala", "LK", "othr", []spelling{{"වික්" + zwj + "රමසිංහ", "නිමල්", "Wickramasinghe", "Nimal"}, {"ශ්" + zwj + "රී ජයවර්ධන", "කුමාරි", "Sri Jayawardena", "Kumari"}},
		[]spelling{{"ලංකා වෙළඳ සමාගම", "", "Lanka Trading Company", ""}}, []spelling{{"කොළඹ", "", "Colombo", ""}}, []string{"ගාලු පාර"}},
	{"Gurmukhi", "IN", "othr", []spelling{{"ਸਿੰਘ", "ਗੁਰਪ੍ਰੀਤ", "Singh", "Gurpreet"}},
		[]spelling{{"ਪੰਜਾਬ ਟਰੇਡਰਜ਼", "", "Punjab Traders", ""}}, []spelling{{"ਅੰਮ੍ਰਿਤਸਰ", "", "Amritsar", ""}}, []string{"ਮਾਲ ਰੋਡ"}},
	{"Tibetan", "BT", "othr", []spelling{{"རྡོ་རྗེ", "བསྟན་འཛིན", "Dorje", "Tenzin"}},
		[]spelling{{"གངས་ལྗོངས་ཚོང་ཁང", "", "Gangjong Trading", ""}}, []spelling{{"ཐིམ་ཕུག", "", "Thimphu", ""}}, []string{"ནོར་འཛིན་ལམ"}},
}

// Scripts names the scripts that payloads come in.
func Scripts() []string {
	names := make([]string, len(scripts))
	for i, s := range scripts {
		names[i] = s.name
	}
	return names
}
